"""Tables of medians, and the ratios that the project promises, as Markdown."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import Compared, Turn
from benchmarks.tools import versions

MB = 1_000_000
MIB = 1 << 20
PEAK_LIMIT_BYTES = 300 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """One promise: `measure` of the best peer is at least `factor` times ours."""

    what: str
    factor: float
    measure: Callable[[Turn], float]
    unit: str


AIMS = (
    Aim(what="full backup", factor=2.0, measure=lambda turn: turn.full.seconds, unit="s"),
    Aim(what="restore", factor=2.0, measure=lambda turn: turn.restore.seconds, unit="s"),
    Aim(what="stored by the second backup", factor=20.0, measure=lambda turn: turn.second_bytes / MB, unit="MB"),
)
# Said beside the promises, with no aim of their own.
ALSO = (
    Aim(what="second backup", factor=0.0, measure=lambda turn: turn.second.seconds, unit="s"),
    Aim(what="stored by the full backup", factor=0.0, measure=lambda turn: turn.full_bytes / MB, unit="MB"),
    Aim(
        what="full backup, peers' staging not counted",
        factor=0.0,
        measure=lambda turn: turn.full.seconds - turn.full.staging_seconds,
        unit="s",
    ),
)


def machine() -> dict[str, Any]:
    """Return what figures depend on: processors, system, versions, and how busy the machine is now."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "model": model[0].partition(":")[2].strip() if model else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "versions": dict(versions()),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of them the head, as a Markdown table whose numbers stand right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        " | ".join(cell.rjust(w) if n else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    rule = " | ".join(("-" * (w - 1) + ":") if n else "-" * w for n, w in enumerate(widths))
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def compared(result: Compared, before: Mapping[str, Any]) -> str:
    """Return the table of medians, the ratios and the peaks of a comparison."""
    names = list(dict.fromkeys(turn.tool for turn in result.turns))
    by_tool = {name: [turn for turn in result.turns if turn.tool == name] for name in names}
    head = ("", "full s", "of it staging", "stored MB", "second s", "stored MB", "restore s", "peak MiB", "equal in")
    rows = [head, *(_row(name, turns) for name, turns in by_tool.items())]
    parts = [_where(result, before), table(rows), "\n".join(_ratios(by_tool)), "\n".join(_peaks(by_tool))]
    parts += [f"left out: {reason}" for reason in result.left_out]
    return "\n\n".join(parts)


def as_json(result: Compared, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything measured, as JSON values."""
    return {"machine": before, "load_average_after": os.getloadavg()[0], **asdict(result)}


def say(text: str) -> None:
    """Print a part of a report."""
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()


def verdict_on_peak(peak_bytes: int) -> str:
    """Return how a peak stands to the 300 MiB that a process may take."""
    met = "under" if peak_bytes < PEAK_LIMIT_BYTES else "NOT under"
    return f"{peak_bytes / MIB:.0f} MiB, {met} {PEAK_LIMIT_BYTES // MIB}"


def _row(name: str, turns: Sequence[Turn]) -> tuple[str, ...]:
    def middle(measure: Callable[[Turn], float], digits: int = 1) -> str:
        return f"{median(map(measure, turns)):,.{digits}f}"

    return (
        name,
        middle(lambda turn: turn.full.seconds, 2),
        middle(lambda turn: turn.full.staging_seconds, 2),
        middle(lambda turn: turn.full_bytes / MB),
        middle(lambda turn: turn.second.seconds, 2),
        middle(lambda turn: turn.second_bytes / MB),
        middle(lambda turn: turn.restore.seconds, 2),
        f"{max(turn.peak_bytes for turn in turns) / MIB:.0f}",
        "/".join(sorted({turn.equal for turn in turns})),
    )


def _where(result: Compared, before: Mapping[str, Any]) -> str:
    rounds = 1 + max(turn.round for turn in result.turns)
    programs = ", ".join(f"{name} {version}" for name, version in before["versions"].items())
    return (
        f"{result.size_bytes / MIB:,.0f} MiB in WAL mode, medians of {rounds} interleaved rounds, {before['at'][:10]}.\n"
        f"{before['processors']} x {before['model']}, {before['system']}, Python {before['python']}; {programs};"
        f" load average {before['load_average']:.2f} before, {os.getloadavg()[0]:.2f} after."
    )


def _ratios(by_tool: Mapping[str, Sequence[Turn]]) -> list[str]:
    peers = {name: turns for name, turns in by_tool.items() if turns[0].is_peer}
    if not peers:
        return ["no peer was measured, so there are no ratios"]
    lines = []
    for name, turns in by_tool.items():
        if not name.startswith("continuum"):
            continue
        for aim in (*AIMS, *ALSO):
            ours = median(map(aim.measure, turns))
            best = min(peers, key=lambda peer: median(map(aim.measure, peers[peer])))
            theirs = median(map(aim.measure, peers[best]))
            ratio = theirs / ours
            end = f"; aim {aim.factor:g}x: {'met' if ratio >= aim.factor else 'NOT met'}" if aim.factor else ""
            lines.append(
                f"- {name}: {aim.what}: {ours:,.2f} {aim.unit}, best peer ({best}) {theirs:,.2f} {aim.unit}: {ratio:.2f}x{end}"
            )
    return lines


def _peaks(by_tool: Mapping[str, Sequence[Turn]]) -> list[str]:
    return [
        f"- {name}: peak memory of any process: {verdict_on_peak(max(turn.peak_bytes for turn in turns))}"
        for name, turns in by_tool.items()
        if name.startswith("continuum")
    ]
