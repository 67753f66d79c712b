"""Compare a state that capture has read from the live database with what its backups and captured commits give for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.fetch import EXPECTED
from continuum_tasks.assembly.replay import prepare_replay, replay
from continuum_tasks.capture.proof import DIGESTS, LiveState, read_state
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.timeline import base_to_prove, unproven
from continuum_tasks.host.site import HostContext
from continuum_tasks.layer.format import DIGEST_BYTES, ZERO_DIGEST
from continuum_tasks.model import Attestation, Backup, CommitRef, Level, Progress
from continuum_tasks.repository.repository import Repository

N_SHOWN = 5
_PIECE_BYTES = 65_536 * DIGEST_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The state that was compared, the pages that differ (the first few), and the backups that failed for it."""

    state: LiveState
    base: Backup
    differing: tuple[int, ...]
    failed: tuple[Backup, ...]


def prove_capture(database: DatabaseConfig, *, repository: Repository, site: HostContext) -> Generator[Progress, None, Proven]:
    """Compare every page that is in use. Where one differs, each backup made of what was captured since the last proof fails.

    Raises BackupNotFound when no state waits, when it changes meanwhile (nothing is stored then) or no backup stands before it,
    ObjectMissing, IntegrityError, KeyringError, StorageError, NoSpace.
    """
    begun = site.clock.monotonic()
    directory = site.state_dir / CAPTURE / database.name
    state = read_state(directory)
    if state is None:
        raise BackupNotFound(f"database {database.name}: no state waits to be compared", hint="capture reads one by itself")
    backups = site.catalog.backups(database=database.name, storage=repository.name)
    base = base_to_prove(backups, state.timeline, state.commit, proven=state.proven_commit)
    with _opened_digests(directory, state, database=database.name) as found, site.scratch() as scratch:
        expected = yield from _expected(state, base, scratch, repository=repository, site=site)
        differing = tuple(pgno for pgno, _ in zip(_differing(expected, found), range(N_SHOWN), strict=False))
    if read_state(directory) != state:  # capture gave it up, or began anew: then these may be digests of another state
        raise _changed(database.name)
    failed = tuple(unproven(backups, state.timeline, since=state.proven_commit)) if differing else ()
    for backup in failed:
        pages = ", ".join(map(str, differing))
        verdict = Attestation(
            backup_id=backup.id,
            level=Level.PAGES,
            passed=False,
            at=site.clock.now(),
            duration_seconds=round(site.clock.monotonic() - begun, 3),
            host=site.host,
            findings=(f"made of captured commits, and the database differs from them at commit {state.commit}: pages {pages}",),
        )
        repository.put_attestation(backup.database, verdict, key_id=backup.key_id)
        site.catalog.attest(backup.storage, verdict)
    return Proven(state=state, base=base, differing=differing, failed=failed)


def _expected(
    state: LiveState, base: Backup, scratch: Path, *, repository: Repository, site: HostContext
) -> Generator[Progress, None, Path]:
    """Put the page digests of the state together, as a restore to its commit does; returns the file."""
    prepared = prepare_replay(
        CommitRef(timeline=state.timeline, number=state.commit), base, repository=repository, backups=(base,)
    )
    expected, target = scratch / EXPECTED, scratch / "captured.db"
    known = page_digests.cached(base, site)
    if known is None:
        page_digests.rebuild(list(repository.read_chain(base.id, database=base.database)), repository, expected)
    else:
        shutil.copyfile(known, expected)
    with target.open("xb"):
        target.chmod(0o600)
    if prepared.pieces:
        yield from replay(prepared, target, scratch, repository=repository)
    return expected


def _opened_digests(directory: Path, state: LiveState, *, database: str) -> BinaryIO:
    """Open the digests of a state: a file that capture never writes again. Raises BackupNotFound when they are not whole."""
    try:
        found = (directory / DIGESTS).open("rb")
    except FileNotFoundError as err:
        raise _changed(database) from err
    if os.fstat(found.fileno()).st_size != state.n_pages * DIGEST_BYTES:
        found.close()
        raise _changed(database)
    return found


def _changed(database: str) -> BackupNotFound:
    return BackupNotFound(
        f"database {database}: the state changed meanwhile, nothing was compared", hint="capture reads a new one by itself"
    )


def _differing(expected: Path, found: BinaryIO) -> Iterator[int]:
    """Yield the pages whose digests differ; one that stands for no page is not compared."""
    n_expected, n_found = expected.stat().st_size, os.fstat(found.fileno()).st_size
    if n_expected != n_found:
        yield min(n_expected, n_found) // DIGEST_BYTES + 1
    pgno = 1
    with expected.open("rb") as ours:
        while (one := ours.read(_PIECE_BYTES)) and (other := found.read(_PIECE_BYTES)):
            for at in range(0, 0 if one == other else min(len(one), len(other)), DIGEST_BYTES):
                digest = other[at : at + DIGEST_BYTES]
                if digest not in (one[at : at + DIGEST_BYTES], ZERO_DIGEST):
                    yield pgno + at // DIGEST_BYTES
            pgno += len(one) // DIGEST_BYTES


def describe(found: Proven) -> Sequence[str]:
    """Return what differs and which backups failed, as lines; none when all is the same."""
    if not found.differing:
        return ()
    pages = ", ".join(map(str, found.differing))
    names = ", ".join(backup.id for backup in found.failed) or "no backup"
    return (f"at commit {found.state.commit} the database differs in pages {pages}", f"not usable any more: {names}")
