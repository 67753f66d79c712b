"""Undo a restore: put the replaced database back by the same safe install; the restored one is kept in its turn."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.errors import TargetError
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Progress
from continuum_tasks.restore import recovery_log
from continuum_tasks.restore.install import quarantine
from continuum_tasks.restore.install.install import InstallOutcome, Ownership, install
from continuum_tasks.restore.pause_capture import capture_paused, refuse_early, settle_install
from continuum_tasks.restore.plan.space import SPACE_MARGIN_BYTES
from continuum_tasks.restore.temporary_file import target_lock, temporary_file
from continuum_tasks.sqlite.holders import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """`put_back` is the quarantine the file came from, still whole; `quarantine` holds the one that was there.

    `kept_out`: who opened that one in the last instant and is to be restarted.
    """

    target: str
    put_back: str
    quarantine: str
    size_bytes: int
    seconds: float
    warnings: tuple[str, ...]
    kept_out: tuple[Holder, ...]


def undo_restore(target: Path, *, site: HostContext) -> Generator[Progress, None, Undone]:
    """Put back what the last restore over `target` replaced; a second undo brings the restored one back.

    Raises TargetError (nothing is kept), TargetBusy, NoSpace; the target is then as it was.
    """
    begun = site.clock.monotonic()
    target = target.absolute()
    yield Progress(phase="plan")
    with target_lock(target, site):
        _settle(target, site=site)
        kept = quarantine.newest_quarantine(target)
        refuse_early(target, overwrite=True, need_bytes=kept.size_bytes + SPACE_MARGIN_BYTES, site=site)
        with temporary_file(target, site=site) as temp:
            yield Progress(phase="copy", total_bytes=kept.size_bytes)
            temp.unlink()  # only its name was wanted
            warnings = quarantine.copy_out(kept, temp)
            yield Progress(phase="install")
            with capture_paused(target, site=site):
                installed = install(temp, target, overwrite=True, now=site.clock.now(), ownership=_ownership(kept.file))
    findings = tuple(f"SQLite finds in the file put back: {finding}" for finding in installed.findings[:5])
    undone = recovery_log.Recovery(
        kind=recovery_log.RecoveryKind.UNDO,
        at=site.clock.now(),
        target=str(target),
        backup_id=None,
        database="",
        storage="",
        quarantine=str(kept.path),
    )
    return Undone(
        target=str(target),
        put_back=str(kept.path),
        quarantine=str(installed.quarantine or ""),
        size_bytes=target.stat().st_size,
        seconds=round(site.clock.monotonic() - begun, 3),
        warnings=(*warnings, *findings, *installed.stale_warnings, *recovery_log.note_recovery(undone, site=site)),
        kept_out=installed.stale,
    )


def _settle(target: Path, *, site: HostContext) -> None:
    """Settle a killed install first. One that turns out finished may have been an undo: doing another would take it back."""
    recovered = settle_install(target, site=site)
    if recovered is not None and recovered.outcome is InstallOutcome.FINISHED:
        raise TargetError(
            f"{target}: a restore or undo that had been killed was finished just now",
            hint="look at the database; if it is not the one you want, run this again",
        )


def _ownership(file: Path) -> Ownership:
    status = file.stat()
    return Ownership(mode=status.st_mode & 0o777, uid=status.st_uid, gid=status.st_gid)
