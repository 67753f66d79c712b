"""python -m continuum_tasks.sample: make a sample database, write to it, change it, hash it."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TextIO

from continuum_tasks.sample import change, generate, oracle, writer

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 1 with one line on standard error. Usage errors exit with 2."""
    options = _parser().parse_args(arguments)
    try:
        result = _COMMANDS[options.command](options)
    except (OSError, ValueError, sqlite3.Error) as err:
        sys.stderr.write(f"{options.path}: {err}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _generate(options: argparse.Namespace) -> Mapping[str, object]:
    spec = generate.SampleSpec(
        size_bytes=options.size,
        seed=options.seed,
        journal_mode=generate.JournalMode(options.journal_mode),
        page_size=options.page_size,
    )
    begun_at = time.monotonic()
    counts = generate.generate(options.path, spec)
    seconds = round(time.monotonic() - begun_at, 3)
    return {"path": str(options.path), "size_bytes": options.path.stat().st_size, "seconds": seconds, "counts": counts}


def _write(options: argparse.Namespace) -> Mapping[str, object]:
    plan = writer.WritePlan(rate=options.rate, seconds=options.seconds, commits=options.commits, seed=options.seed)
    signals: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)  # the commit under way is finished and logged before the writer ends
    begun_at = time.monotonic()
    report = writer.WriteReport()
    with ExitStack() as stack:
        log: TextIO = sys.stdout
        if options.commits_log is not None:
            log = stack.enter_context(options.commits_log.open("a", encoding="utf-8"))
        for commit in writer.write(options.path, plan, stopped=lambda: bool(signals)):
            log.write(json.dumps(asdict(commit)) + "\n")
            log.flush()
            report = writer.adding(report, commit)
    return {**asdict(report), "seconds": round(time.monotonic() - begun_at, 3)}


def _change(options: argparse.Namespace) -> Mapping[str, object]:
    changed = change.change(options.path, fraction=options.fraction, seed=options.seed)
    return {"n_rows": sum(changed.values()), "counts": changed}


def _oracle(options: argparse.Namespace) -> Mapping[str, object]:
    return asdict(oracle.logical_hash(options.path))


_COMMANDS = {"generate": _generate, "write": _write, "change": _change, "oracle": _oracle}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m continuum_tasks.sample", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("generate", help="make a new memory.db of about this size")
    making.add_argument("path", type=Path)
    making.add_argument("--size", type=_size, required=True, help="bytes, or with K, M or G: 50M")
    making.add_argument("--journal-mode", choices=list(generate.JournalMode), default="delete")
    making.add_argument("--page-size", type=int, default=4096)
    writing = commands.add_parser("write", help="commit as the service does; one JSON line a commit, then a report")
    writing.add_argument("path", type=Path)
    ending = writing.add_mutually_exclusive_group(required=True)
    ending.add_argument("--seconds", type=float)
    ending.add_argument("--commits", type=int, help="end after this many; on a copy, this replays a live writer")
    ending.add_argument("--forever", action="store_true", help="until SIGTERM or SIGINT")
    writing.add_argument("--rate", type=_rate, default=10.0, help="commits a second (default 10)")
    writing.add_argument("--commits-log", type=Path, help="append the commits to this file, not to standard output")
    changing = commands.add_parser("change", help="change a fraction of the rows in place")
    changing.add_argument("path", type=Path)
    changing.add_argument("--fraction", type=float, default=0.001)
    hashing = commands.add_parser("oracle", help="print the logical hash of any SQLite database")
    hashing.add_argument("path", type=Path)
    for command in (making, writing, changing):
        command.add_argument("--seed", type=int, default=1)
    return parser


def _size(given: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)(?:iB|B)?", given)
    if found is None:
        raise argparse.ArgumentTypeError(f"{given!r} is not a size: use bytes, or 50M, or 1G")
    return int(float(found[1]) * _UNITS[found[2]])


def _rate(given: str) -> float:
    try:
        rate = float(given)
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"{given!r} is not a number") from err
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"rate {given}: not above 0")
    return rate


if __name__ == "__main__":
    raise SystemExit(main())
