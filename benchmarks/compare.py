"""Compare in one interleaved run: every round gives each tool the same database, in another order."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import database, proof
from benchmarks.measure import Step
from benchmarks.ours import OneProcess, Workers, why_no_workers
from benchmarks.places import BENCH, program, why_missing
from benchmarks.tools import Borg, Restic, Sqlite, Tool, fresh

RUN = BENCH / "run"
PEERS = ("restic", "borg", "sqlite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One tool in one round; `full_bytes` and `second_bytes` are what each backup added to its storage."""

    tool: str
    is_peer: bool
    round: int
    full: Step
    second: Step
    restore: Step
    full_bytes: int
    second_bytes: int
    equal: str

    @property
    def peak_bytes(self) -> int:
        return max(step.peak_bytes for step in (self.full, self.second, self.restore))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All turns, the size of the database, and who was left out, why."""

    size_bytes: int
    turns: tuple[Turn, ...]
    left_out: tuple[str, ...]


def run(size_bytes: int, *, rounds: int, peers: Sequence[str]) -> Compared:
    """Compare on a sample of this size. Raises RuntimeError when a tool fails or restores something else."""
    sample = database.sample(size_bytes)
    source = RUN / "memory.db"
    tools, left_out = _tools(source, peers)
    turns: list[Turn] = []
    try:
        for number in range(rounds):
            fresh(RUN)
            database.copy(sample, source)
            shift = number % len(tools)
            turns += _round(number, (*tools[shift:], *tools[:shift]), source)
    finally:
        shutil.rmtree(RUN, ignore_errors=True)
    return Compared(size_bytes=sample.stat().st_size, turns=tuple(turns), left_out=tuple(left_out))


def _round(number: int, tools: Sequence[Tool], source: Path) -> list[Turn]:
    full, second, restored = {}, {}, {}
    for tool in tools:
        tool.prepare()
        before = tool.stored_bytes()
        full[tool.name] = (_quiet(number, tool, "full").full(), tool.stored_bytes() - before)
    database.change(source, seed=number + 1)
    reference = proof.take(source)
    for tool in tools:
        before = tool.stored_bytes()
        second[tool.name] = (_quiet(number, tool, "second").second(), tool.stored_bytes() - before)
    for tool in tools:
        target = RUN / "restored.db"
        step = _quiet(number, tool, "restore").restore(target)
        restored[tool.name] = (step, proof.prove(target, reference, tool=tool.name))
        target.unlink()
    return [
        Turn(
            tool=tool.name,
            is_peer=tool.is_peer,
            round=number,
            full=full[tool.name][0],
            second=second[tool.name][0],
            restore=restored[tool.name][0],
            full_bytes=full[tool.name][1],
            second_bytes=second[tool.name][1],
            equal=restored[tool.name][1],
        )
        for tool in tools
    ]


def _quiet(number: int, tool: Tool, verb: str) -> Tool:
    """Let what earlier steps left unwritten reach the disk, so that nobody pays for another."""
    print(f"round {number + 1}: {tool.name}: {verb}", file=sys.stderr, flush=True)
    os.sync()
    return tool


def _tools(source: Path, peers: Sequence[str]) -> tuple[list[Tool], list[str]]:
    tools: list[Tool] = [OneProcess(source=source, place=RUN / "one-process")]
    left_out = []
    reason = why_no_workers(RUN / "workers")
    if reason:
        left_out.append(f"continuum, broker and workers: {reason}")
    else:
        tools.append(Workers(source=source, place=RUN / "workers"))
    if "sqlite" in peers:
        tools.append(Sqlite(source=source, place=RUN / "sqlite"))
    for name in ("restic", "borg"):
        binary = program(name)
        if name in peers and binary is None:
            left_out.append(f"{name}: {why_missing(name)}")
        elif name in peers and binary is not None:
            tools += _peer(name, binary, source)
    return tools, left_out


def _peer(name: str, binary: Path, source: Path) -> list[Tool]:
    if name == "restic":
        return [Restic(source=source, place=RUN / "restic", binary=binary)]
    return [
        Borg(source=source, place=RUN / f"borg-{label}", binary=binary, compression=compression)
        for label, compression in (("lz4", "lz4"), ("zstd", "zstd,1"))
    ]
