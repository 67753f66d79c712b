"""Restore one backup: assemble it beside the target, prove it, then install it in one rename.

Until that rename the target is what it was; a killed restore leaves at most a hidden temporary file and an intent
record, which the next restore of the same target finishes or clears away.
"""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.actions.assemble import Assembled, assemble, prove
from continuum_tasks.actions.fan_out import Fan
from continuum_tasks.actions.site import Site
from continuum_tasks.errors import ConfigError, NoSpace, ProofFailed
from continuum_tasks.model import Backup, BackupId, Manifest, Progress, Status
from continuum_tasks.plan.restore import SPACE_MARGIN_BYTES
from continuum_tasks.repository import Repository
from continuum_tasks.sqlite import check
from continuum_tasks.sqlite.install import Installed, Ownership, check_target, install, recover
from continuum_tasks.sqlite.staging import private_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which backup goes where. `verify` also runs SQLite's integrity check on the proven file before it is installed."""

    backup_id: BackupId
    target: Path
    overwrite: bool
    verify: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was done: the replaced file, if any, is in `quarantine` with its sidecars."""

    backup: Backup
    target: str
    quarantine: str
    fetched_bytes: int
    seconds: float
    warnings: tuple[str, ...]


def run(
    request: Request, *, repository: Repository, site: Site, fan: Fan, still_mine: Callable[[], None]
) -> Generator[Progress, None, Restored]:
    """Restore a backup; yields progress. `still_mine` raises when this run lost its job to a newer one.

    Raises BackupNotFound, KeyringError, IntegrityError (naming the object), StorageError or TargetError; the target is
    then as it was.
    """
    begun = site.clock.monotonic()
    target = request.target.absolute()
    yield Progress(phase="plan")
    chain = repository.read_chain(request.backup_id)
    with _scratch(target, site=site) as work:
        failpoints.reach("restore.begun")
        recover(target)
        check_target(target, overwrite=request.overwrite, need_bytes=chain[-1].backup.original_size_bytes + SPACE_MARGIN_BYTES)
        with _temporary(target, site=site) as filling:
            failpoints.reach("restore.temp_created")
            assembled = yield from _fill(chain, filling, work, repository=repository, fan=fan)
            # Under another name: a worker that was given up may still come to open the old one.
            temporary = filling.rename(filling.with_name(filling.name.replace(".filling.", ".proven.")))
            yield from prove(chain, temporary, work, site=site)
            warnings = yield from _examine(chain[-1], temporary, request)
            failpoints.reach("restore.proven")
            yield Progress(phase="install")
            still_mine()
            installed = install(
                temporary, target, overwrite=request.overwrite, now=site.clock.now(), ownership=_ownership(chain[-1])
            )
    return Restored(
        backup=chain[-1].backup,
        target=str(target),
        quarantine=str(installed.quarantine or ""),
        fetched_bytes=assembled.fetched_bytes,
        seconds=round(site.clock.monotonic() - begun, 3),
        warnings=(*warnings, *_remarks(installed)),
    )


def _remarks(installed: Installed) -> tuple[str, ...]:
    findings = (f"SQLite finds in the restored file: {finding}" for finding in installed.findings[:5])
    stale = (f"restart {holder}: it opened the old file in the last instant" for holder in installed.stale)
    return (*findings, *stale)


def _fill(
    chain: tuple[Manifest, ...], temporary: Path, work: Path, *, repository: Repository, fan: Fan
) -> Generator[Progress, None, Assembled]:
    os.truncate(temporary, chain[-1].backup.original_size_bytes)
    assembled = yield from assemble(chain, temporary, work, repository=repository, fan=fan)
    failpoints.reach("restore.chunks_written")
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    return assembled


def _examine(manifest: Manifest, temporary: Path, request: Request) -> Generator[Progress, None, tuple[str, ...]]:
    backup = manifest.backup
    suspect = backup.status is Status.SUSPECT
    warnings = tuple(f"the source was damaged when this was made: {reason}" for reason in backup.suspect_reasons)
    if manifest.checked == "none" and not request.verify:
        # A copy that was checked when it was staged needs no second look: every page was just proven to be the same.
        yield Progress(phase="check", total_bytes=backup.original_size_bytes)
        return warnings + tuple(f"SQLite finds in it: {problem}" for problem in check.quick_check(temporary)[:5])
    if request.verify:
        yield Progress(phase="verify", total_bytes=backup.original_size_bytes)
        problems = check.integrity_check(temporary)
        if problems and not suspect:
            raise ProofFailed(
                f"backup {backup.id}: SQLite finds {problems[0]}",
                hint="the source was damaged in a way its quick check missed; restore an older backup, or without --verify",
            )
    return warnings


@contextmanager
def _temporary(target: Path, *, site: Site) -> Iterator[Path]:
    """Make the hidden file beside the target (0600) that will become it; what killed restores left there is removed.

    Its owner holds a `flock` on it, so what is in use is told from what was left.
    """
    for stale in target.parent.glob(f".{glob.escape(target.name)}.continuum-*.tmp"):
        _remove_unlocked(stale)
    path = target.parent / f".{target.name}.continuum-{site.random_bytes(6).hex()}.filling.tmp"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        path.with_name(path.name.replace(".filling.", ".proven.")).unlink(missing_ok=True)


def _remove_unlocked(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # removed meanwhile, or not ours to remove
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


@contextmanager
def _scratch(target: Path, *, site: Site) -> Iterator[Path]:
    """Make the private directory of a restore: where `temp_dir` cannot be used, beside the target."""
    with ExitStack() as stack:
        try:
            work = stack.enter_context(site.scratch())
        except (ConfigError, NoSpace):
            work = stack.enter_context(private_directory(target.parent, now=site.clock.now()))
        yield work


def _ownership(manifest: Manifest) -> Ownership:
    source = manifest.source
    return Ownership(mode=source.mode, uid=source.uid, gid=source.gid)
