"""Where a restored file becomes whole: hidden beside its target, under the target's lock, or in scratch to be looked into."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from continuum_tasks.assembly.assemble import prove_assembled
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.restore_point import RestorePoint, fill
from continuum_tasks.errors import ConfigError, DatabaseLocked, NoSpace
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Progress
from continuum_tasks.repository.lock import host_lock
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.staging import check_space, private_directory


@contextmanager
def target_lock(target: Path, site: HostContext) -> Iterator[None]:
    """Hold a target path on this host: one restore or undo of it at a time. Raises DatabaseLocked."""
    name = f"target-{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}"
    with ExitStack() as stack:
        try:
            stack.enter_context(host_lock(name, site.contender()))
        except DatabaseLocked as err:
            hint = "wait for it to end; then look at the database before you try again"
            raise DatabaseLocked(f"{target}{err.message.removeprefix(name)}", hint=hint) from err
        yield


@contextmanager
def temporary_file(target: Path, *, site: HostContext) -> Iterator[Path]:
    """Make the hidden file beside the target (0600) that will become it; what killed runs left there is removed.

    Its owner holds a `flock` on it, so what is in use is told from what was left.
    """
    for stale in target.parent.glob(f".{glob.escape(target.name)}.continuum-*.tmp*"):
        _remove_unlocked(stale)
    stem = f".{target.name}.continuum-{site.random_bytes(6).hex()}"
    path = target.parent / f"{stem}.tmp"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)
        for name in target.parent.glob(f"{glob.escape(stem)}*"):
            name.unlink(missing_ok=True)


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
def scratch_for(target: Path, *, site: HostContext) -> Iterator[Path]:
    """Make the private directory of a restore: where `temp_dir` cannot be used, beside the target."""
    with ExitStack() as stack:
        try:
            work = stack.enter_context(site.scratch())
        except (ConfigError, NoSpace):
            work = stack.enter_context(private_directory(target.parent, now=site.clock.now()))
        yield work


def assembled(
    wanted: RestorePoint, work: Path, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, Path]:
    """Assemble a state in the private directory `work` and prove it; returns the file. Raises as `state.fill`, and NoSpace."""
    check_space(site.temp_dir, wanted.peak_bytes, name=wanted.backup.database)
    path = work / "restored.db"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    filled = yield from fill(wanted, path, work, repository=repository, fan=fan)
    yield from prove_assembled(filled.state, path, work, site=site)
    return path
