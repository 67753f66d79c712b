"""Restore into a live file: write a proven state through SQLite while every connection goes on (ADR 10).

The one declared exception to the promise that the source is never harmed: writers wait while the pages that differ are
written, which is said before, and refused when it would outlast the busy window, unless they are to wait.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.assemble import Whole
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.fetch import EXPECTED
from continuum_tasks.assembly.restore_point import RestorePoint
from continuum_tasks.config import Config
from continuum_tasks.host.site import HostContext
from continuum_tasks.layer.format import DIGEST_BYTES
from continuum_tasks.model import Progress
from continuum_tasks.repository.repository import Repository
from continuum_tasks.restore.install.install import check_target
from continuum_tasks.restore.install.online import check_online, live_writer, page_library
from continuum_tasks.restore.install.overwrite import Comparison, Order
from continuum_tasks.restore.install.quarantine import unused_name
from continuum_tasks.restore.pause_capture import on_new_timeline
from continuum_tasks.restore.plan.online import OnlinePlan, PageDifference, online_plan, online_refusal
from continuum_tasks.restore.plan.space import SPACE_MARGIN_BYTES
from continuum_tasks.restore.temporary_file import assembled

DEFAULT_WINDOW_SECONDS = 4  # as where nothing is configured


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """How a live file may be written into: how long its writers may wait, and whether they may for longer."""

    busy_window_seconds: float
    wait_writers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFile:
    """A live database on this host, and how it may be written into."""

    path: Path
    online: Online
    site: HostContext


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenOnline:
    """What was written into a live file, and how long its writers could not begin. `root` is over its pages as committed.

    `quarantine` holds the replaced state as one file, empty when nothing was written: the database had that very state.
    """

    n_pages_written: int
    n_pages: int
    log_bytes: int
    locked_seconds: float
    root: str
    quarantine: str


def busy_window(config: Config, target: Path, database: str) -> float:
    """Return the busy window (seconds) configured for the database at `target`, or else for the one that was backed up."""
    known = [one for one in config.databases if one.path.resolve() == target.resolve()]
    known += [one for one in config.databases if one.name == database]
    return float(known[0].busy_window_seconds if known else DEFAULT_WINDOW_SECONDS)


def check_live(target: Path, wanted: RestorePoint, *, site: HostContext) -> None:
    """Refuse what cannot be done before the first byte is fetched. Raises TargetError, NoSpace."""
    check_online(target, page_size=wanted.backup.page_size, accepted=site.accepts(target))
    check_target(target, overwrite=True, need_bytes=wanted.peak_bytes + SPACE_MARGIN_BYTES)


def write_online(
    state: Whole, temp: Path, live: LiveFile, *, work: Path, check_lease: Callable[[], None]
) -> Generator[Progress, None, WrittenOnline]:
    """Write a proven file into the live one; `temp` becomes what it replaced, in the quarantine.

    `check_lease` is asked right before the transaction.
    Raises TargetBusy, NoSpace, TargetError, ProofFailed: the database is as it was. JobFailed: it is not known, but whole.
    """
    yield Progress(phase="compare", total_bytes=state.size_bytes)
    target, online = live.path, live.online
    quarantine = unused_name(target, live.site.clock.now())
    order = Order(
        library=str(page_library()),
        live=str(target),
        expected=str(work / EXPECTED),
        page_size=state.page_size,
        n_pages=state.n_pages,
        source=str(temp),
        quarantine=str(quarantine),
        window_seconds=online.busy_window_seconds,
        wait_writers=online.wait_writers,
    )
    with live_writer(order) as writer:
        plan = _plan(live, state, writer.comparison)
        refused = online_refusal(plan, free_bytes=shutil.disk_usage(target.parent).free, wait_writers=online.wait_writers)
        if refused is not None:
            raise refused
        yield Progress(phase="install", total_bytes=plan.n_pages_differ * plan.page_size)
        if not plan.n_pages_differ:
            return _nothing(state)
        with on_new_timeline(target, site=live.site):
            check_lease()
            written = writer.write()
    if not written.n_pages_written:
        return _nothing(state)
    _put_first(work / EXPECTED, written.first_page)
    return WrittenOnline(
        n_pages_written=written.n_pages_written,
        n_pages=state.n_pages,
        log_bytes=plan.log_bytes,
        locked_seconds=written.locked_seconds,
        root=page_digests.root_of(work / EXPECTED),
        quarantine=str(quarantine),
    )


def plan_online(
    wanted: RestorePoint, live: LiveFile, *, repository: Repository, fan: Fan
) -> Generator[Progress, None, OnlinePlan]:
    """Compare a live file with a state, by the digests in the page indexes; a state after a commit is assembled for that.

    Changes nothing and keeps nobody waiting. Raises TargetError, and what reading the backup raises.
    """
    site = live.site
    check_online(live.path, page_size=wanted.backup.page_size, accepted=site.accepts(live.path))
    with site.scratch() as work:
        if wanted.replay is not None:
            path = yield from assembled(wanted, work, repository=repository, site=site, fan=fan)
            n_pages, source = path.stat().st_size // wanted.backup.page_size, str(path)
        else:
            page_digests.rebuild(list(wanted.chain), repository, work / EXPECTED)
            n_pages, source = wanted.backup.n_pages, ""
        yield Progress(phase="compare", total_bytes=wanted.size_bytes)
        order = Order(
            library=str(page_library()),
            live=str(live.path),
            expected=str(work / EXPECTED),
            page_size=wanted.backup.page_size,
            n_pages=n_pages,
            source=source,
        )
        with live_writer(order) as writer:
            state = Whole(name=wanted.name, page_size=order.page_size, n_pages=n_pages, root="")
            return _plan(live, state, writer.comparison)


def _plan(live: LiveFile, state: Whole, found: Comparison) -> OnlinePlan:
    difference = PageDifference(
        wal=found.wal,
        n_differ=found.n_differ,
        n_pages=state.n_pages,
        n_pages_now=found.n_pages_now,
        page_size=state.page_size,
        compare_seconds=found.seconds,
    )
    return online_plan(str(live.path), difference, busy_window_seconds=live.online.busy_window_seconds)


def _nothing(state: Whole) -> WrittenOnline:
    return WrittenOnline(
        n_pages_written=0, n_pages=state.n_pages, log_bytes=0, locked_seconds=0, root=state.root, quarantine=""
    )


def _put_first(expected: Path, digest: str) -> None:
    """Page 1 has SQLite's own counters now; where it could not be read again, no proof of the pages is to be had later."""
    with expected.open("rb+") as file:
        file.write(bytes.fromhex(digest) or bytes(DIGEST_BYTES))
