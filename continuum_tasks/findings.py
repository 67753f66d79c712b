"""What a look at something found: one line with a severity, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


_EXIT_CODES = {Severity.OK: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a health report; `hint` says what to do."""

    severity: Severity
    subject: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something to be said on the way to a result; `warns`: the result may not be what was hoped for."""

    text: str
    warns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What kept us from looking, as an error said it. `transient`: looking again may help."""

    message: str
    hint: str = ""
    transient: bool = False


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the worst severity, `ok` of none."""
    return max((finding.severity for finding in findings), key=rank, default=Severity.OK)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 for ok, 1 for warning, 2 for critical."""
    return rank(worst(findings))


def rank(severity: Severity) -> int:
    """Order severities: 0 ok, 1 warning, 2 critical."""
    return _EXIT_CODES[severity]


def ok(subject: str, text: str) -> Finding:
    """Return a line that asks for nothing."""
    return Finding(severity=Severity.OK, subject=subject, text=text)


def warning(subject: str, text: str, hint: str) -> Finding:
    """Return a line that asks for care."""
    return Finding(severity=Severity.WARNING, subject=subject, text=text, hint=hint)


def critical(subject: str, text: str, hint: str) -> Finding:
    """Return a line that asks for action now."""
    return Finding(severity=Severity.CRITICAL, subject=subject, text=text, hint=hint)
