"""Peak memory of backup and restore by the size of the database: it must not grow with it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from benchmarks import database, report
from benchmarks.compare import RUN
from benchmarks.ours import OneProcess, Workers, why_no_workers
from benchmarks.report import MIB
from benchmarks.tools import Tool, fresh


def run(sizes: Sequence[int]) -> str:
    """Return a table of peaks in MiB, of the largest process in each step."""
    rows: list[tuple[str, ...]] = [("", "database MiB", "full", "incremental", "restore")]
    largest = 0
    try:
        for size_bytes in sizes:
            sample = database.sample(size_bytes)
            fresh(RUN)
            for tool in _tools():
                database.copy(sample, RUN / "memory.db")
                peaks = _peaks(tool)
                largest = max(largest, *peaks)
                rows.append((tool.name, f"{size_bytes / MIB:,.0f}", *(f"{peak / MIB:.0f}" for peak in peaks)))
    finally:
        shutil.rmtree(RUN, ignore_errors=True)
    return f"{report.table(rows)}\n\nlargest: {report.verdict_on_peak(largest)}"


def _tools() -> list[Tool]:
    source = RUN / "memory.db"
    tools: list[Tool] = [OneProcess(source=source, place=RUN / "one-process")]
    if not why_no_workers(RUN / "workers"):
        tools.append(Workers(source=source, place=RUN / "workers"))
    return tools


def _peaks(tool: Tool) -> list[int]:
    tool.prepare()
    full = tool.full()
    database.change(RUN / "memory.db", seed=1)
    second = tool.second()
    restored = tool.restore(RUN / "restored.db")
    (RUN / "restored.db").unlink()
    return [step.peak_bytes for step in (full, second, restored)]
