"""Every command line of both runbooks is one that the command line takes, and what ours promises about exit codes is so."""

from __future__ import annotations

import re
import subprocess

import click
import pytest

from continuum_tasks.cli.main import exit_codes
from tests.runbook.document import ORIGINAL, OURS, blocks, continuum_lines
from tests.support.cli import parse

ID = "backup-full-20251206-010000"
VALUES = {
    "$DELETION_TIME": "2025-12-06T14:30:00Z",
    "$INFECTION_TIME": "2025-12-06T12:00:00Z",
    "$TABLE": "messages",
    "$LAST_GOOD": "48209",
    "$((LAST_GOOD + 1))": "48210",
    "$SCRATCH": "/var/tmp/clean.abc",
}
NOT_YET = "making a second key, re-encrypting and archiving come later"


def filled(line: str) -> str:
    """Put a value where the shell would: known variables theirs, all others, placeholders and $(...) a backup id."""
    line = re.sub(r"\$\{(\w+):\?[^}]*\}", r"$\1", line)
    for name, value in VALUES.items():
        line = line.replace(name, value)
    return re.sub(r"\$\w+|\bVALUE\b|\bID\b", ID, line)


def inline_lines() -> list[tuple[tuple[str, ...], str]]:
    """Return the commands that stand in a sentence, whole ones only."""
    prose = re.sub(r"```.*?```", "", OURS.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [line for line in re.findall(r"`(continuum [^`]+)`", prose) if not line.endswith("...")]
    return [(("in a sentence",), line.replace("NAME", "s3")) for line in found]


def original_lines() -> list[object]:
    later = pytest.mark.xfail(reason=NOT_YET, raises=click.UsageError, strict=True)
    is_later = re.compile(r"continuum backup (key-|re-encrypt)")
    lines = continuum_lines(ORIGINAL)
    return [pytest.param(heads, line, marks=later if is_later.match(line) else ()) for heads, line in lines]


@pytest.mark.parametrize(("headings", "line"), [*continuum_lines(OURS), *inline_lines()])
def test_the_command_line_takes_this_line_of_ours(headings: tuple[str, ...], line: str) -> None:
    assert parse(filled(line)).command.callback is not None


@pytest.mark.parametrize(("headings", "line"), original_lines())
def test_the_command_line_takes_this_line_of_the_original(headings: tuple[str, ...], line: str) -> None:
    assert parse(filled(line)).command.callback is not None


def test_a_line_that_is_not_taken_would_be_noticed() -> None:
    for line in ("continuum backup list --verified", "continuum backup restore", f"continuum backup forensic-copy {ID}"):
        with pytest.raises(click.UsageError):
            parse(filled(line))


def test_lines_are_found_wherever_they_stand() -> None:
    ours = [line for _, line in continuum_lines(OURS)]
    assert "continuum backup health" in ours, "before a pipe"
    assert any(line.startswith("continuum backup list --verified-only --limit 1") for line in ours), "inside $(...), after ||"
    assert any("--on-conflict skip --dry-run" in line for line in ours), "over several lines"
    assert len(ours) > 80


def test_every_scenario_and_procedure_of_the_original_has_its_place_in_ours() -> None:
    def headings(text: str) -> list[str]:
        return re.findall(r"(?m)^#{2,4} (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL))

    ours = headings(OURS.read_text(encoding="utf-8"))
    wanted = [
        head for head in headings(ORIGINAL.read_text(encoding="utf-8")) if head not in ("On-Call Schedule", "Escalation Path")
    ]
    assert [head for head in wanted if head not in ours] == []


def test_ours_has_nothing_of_what_was_unsafe() -> None:
    text = "\n".join(line for block in blocks(OURS, "") for line in block.lines())
    bad = (r"\bcp ", "kill -9", r"\.dump", r"sqlite3 [^\n]*<", r"chmod (?:755|644)", r"echo [^\n]*SUCCESS", r"rm [^\n]*\.db\b")
    for unsafe in bad:
        assert re.search(unsafe, text) is None, unsafe
    assert all("-readonly" in line for line in text.splitlines() if "sqlite3 " in line)
    assert "key-generate" not in text and "re-encrypt" not in text


def test_exit_codes_in_the_table_are_the_programs() -> None:
    table = OURS.read_text(encoding="utf-8").partition("### When a step fails")[2].partition("---\n")[0]
    codes = [int(code) for code in re.findall(r"(?m)^\| (\d+) \|", table)]
    assert codes == [code for code in exit_codes() if code <= 70]


def test_every_link_of_ours_leads_somewhere() -> None:
    text = OURS.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    anchors = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"(?m)^#+ (.*)$", text)}
    assert len(links) > 5
    for link in links:
        assert link[1:] in anchors if link.startswith("#") else (OURS.parent / link).exists(), link


def test_every_block_is_a_shell_script() -> None:
    for block in blocks(OURS, ""):
        done = subprocess.run(["bash", "-n"], input=block.text.replace("<backup-id>", ID), capture_output=True, text=True)
        assert done.returncode == 0, (block.headings, done.stderr)
