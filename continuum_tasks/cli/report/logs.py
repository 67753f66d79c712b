"""continuum backup logs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click

from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import cli_context, configuration, shared_options
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.setup import log_tail

LEVELS = ("debug", "info", "warning", "error", "critical")
TAIL = 100
POLL_SECONDS = 0.25
SLACK = timedelta(minutes=1)  # processes append whole lines, each when it gets to it: older ones may stand behind newer


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of the log: `fields` as logged, None for one that cannot be read; `at` and `level` where it has them."""

    text: str
    fields: dict[str, Any] | None
    at: datetime | None
    level: str


@click.command("logs")
@click.option(
    "--tail",
    "n",
    type=click.IntRange(1, 1_000_000),
    default=None,
    metavar="N",
    help=f"The last N lines that fit [default: {TAIL}; with --since: all].",
)
@click.option("--level", type=click.Choice(LEVELS), default=None, help="Only lines of this level and more severe ones.")
@time_option("--since", "Only lines from then on: an instant, or how long ago (1h, 7d).")
@click.option("--follow", is_flag=True, help="Go on showing what is logged, until Ctrl-C.")
@shared_options
def logs(n: int | None, level: str | None, since: datetime | None, follow: bool) -> None:
    """Show what workers and commands logged, newest last; rotated files are read too.

    Lines that are not JSON, such as the last words of a crashing process, are shown unchanged, whatever the level.

    \b
    Example:
      continuum backup logs --level error --since 1h
    """
    path = configuration().log_file
    window = log_tail.LogWindow(
        wanted=partial(_is_wanted, level=level, since=since),
        over=partial(_is_over, since=since),
        n=TAIL if n is None and since is None else n,
    )
    with ExitStack() as stack:
        sources = log_tail.open_log(path, stack, not_before=0.0 if since is None else _before(since).timestamp())
        if not sources:
            output.remark(f"{path}: nothing was logged yet")
        current = next((s for s in sources if s.path == path and s.size is not None), None)
        end = _whole(current) if follow and current is not None else 0
        if follow and current is not None:
            sources = [log_tail.LogFile(path=path, file=current.file, size=end), *sources[1:]]
        _show(log_tail.log_lines(sources, window, tell=output.warn), follow=follow)
        if not follow:
            return
        descriptor = None if current is None else current.file.fileno()
        with closing(log_tail.LogFollower(path, descriptor=descriptor, offset=end)) as follower:
            while True:
                _show((line for line in follower.poll() if window.wanted(line)), follow=True)
                time.sleep(POLL_SECONDS)


def parse_line(raw: bytes) -> LogLine:
    """Read one line of the log."""
    text = raw.decode("utf-8", "backslashreplace").rstrip("\r")
    try:
        fields = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return LogLine(text=text, fields=None, at=None, level="")
    if not isinstance(fields, dict):
        return LogLine(text=text, fields=None, at=None, level="")
    level = str(fields.get("level", "")).lower() or ("error" if "traceback" in fields else "info")
    return LogLine(text=text, fields=fields, at=_time(fields.get("at")), level=level)


def _whole(source: log_tail.LogFile) -> int:
    """Return where the last whole line ends: the beginning of one that is being written waits for its rest."""
    size = source.size or 0
    if size == 0 or os.pread(source.file.fileno(), 1, size - 1) == b"\n":
        return size
    return next(offset for offset, _ in log_tail.backwards(source.file, size))


def _is_wanted(raw: bytes, *, level: str | None, since: datetime | None) -> bool:
    if not raw.strip():
        return False
    if level is None and since is None:
        return True
    line = parse_line(raw)
    if since is not None and line.at is not None and line.at < since:
        return False
    return level is None or line.level not in LEVELS or LEVELS.index(line.level) >= LEVELS.index(level)


def _is_over(raw: bytes, *, since: datetime | None) -> bool:
    if since is None:
        return False
    at = parse_line(raw).at
    return at is not None and at < _before(since)


def _before(since: datetime) -> datetime:
    return since - SLACK if since.year > 1 else since  # nothing is before year 1


def _show(lines: Iterable[bytes], *, follow: bool) -> None:
    if not cli_context().as_json:
        for raw in lines:
            output.print_text(_text(parse_line(raw)))
    elif follow:
        for raw in lines:
            output.out(json.dumps(output.versioned_fields(_fields(parse_line(raw)))))
    else:
        output.print_document([_fields(parse_line(raw)) for raw in lines])


def _fields(line: LogLine) -> dict[str, Any]:
    return {"unreadable": line.text} if line.fields is None else line.fields


def _text(line: LogLine) -> str:
    if line.fields is None:
        return line.text
    at = output.moment(line.at) if line.at is not None else "?"
    logger = str(line.fields.get("logger", ""))
    process = f"[{line.fields['process']}]" if "process" in line.fields else ""
    event = str(line.fields.get("event", ""))
    trace = "".join(f"\n    {row}" for row in str(line.fields.get("traceback", "")).splitlines())
    return f"{at} {line.level:<8} {logger}{process}: {event}{trace}"


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)
