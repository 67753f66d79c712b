"""Gather what a report would list line by line, hundreds of times the same, into what happened. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from continuum_tasks.report.plan.report import BackupRun, RetentionEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The same decision about `n` subjects on one day; `last` is the newest of them."""

    last: RetentionEvent
    n: int

    @property
    def subject(self) -> str:
        return self.last.subject if self.n == 1 else f"{self.n:,}, the last {self.last.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspected:
    """Backups of one database in one storage, in a row, that are suspect for the same kinds of reasons."""

    first: BackupRun
    last: BackupRun
    n: int

    @property
    def since(self) -> datetime:
        return self.first.created_at

    @property
    def subject(self) -> str:
        return _name(self.last) if self.n == 1 else f"{self.n:,}, from {_name(self.first)} to {_name(self.last)}"


def decided(decisions: Iterable[RetentionEvent]) -> tuple[Decided, ...]:
    """Return what was decided, newest first: what is alike but for the subject counts as one a day."""
    found: dict[tuple[object, ...], list[RetentionEvent]] = {}
    for decision in decisions:
        day = decision.at.astimezone(UTC).date()
        found.setdefault((day, decision.action, decision.outcome, decision.detail), []).append(decision)
    groups = [Decided(last=max(alike, key=lambda d: d.at), n=len(alike)) for alike in found.values()]
    return tuple(sorted(groups, key=lambda group: group.last.at, reverse=True))


def suspected(suspects: Sequence[BackupRun]) -> tuple[Suspected, ...]:
    """Return what is suspect, newest first: backups that follow each other for the same kinds of reasons count as one."""
    in_place = sorted(suspects, key=lambda run: (run.database, run.storage, run.created_at))
    alike = [[*runs] for _, runs in groupby(in_place, key=_kind)]
    groups = [Suspected(first=runs[0], last=runs[-1], n=len(runs)) for runs in alike]
    return tuple(sorted(groups, key=lambda group: group.last.created_at, reverse=True))


def _kind(run: BackupRun) -> tuple[str, str, tuple[str, ...]]:
    """Return what two suspect backups share: of `anomaly: rows lost: table messages lost ...` the numbers differ each time."""
    return run.database, run.storage, tuple(":".join(reason.split(":")[:2]) for reason in run.suspect_reasons)


def _name(run: BackupRun) -> str:
    return run.backup_id or f"{run.strategy}, expired"
