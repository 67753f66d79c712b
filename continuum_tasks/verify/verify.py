"""Verify one backup from the storage alone, and store the verdict beside it.

Levels, each with its whole chain: `objects` reads every stored byte against the SHA-256 in the manifests (no key),
`pages` opens every block and adds the page digests up to the root, `restore` assembles the database, proves it and
lets SQLite check it. Only a passed `restore` level makes a backup `verified`.

A verdict speaks of the backup's bytes. What is wrong with the documents beside them is mended where that is possible, and
raised after the verdict was stored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from continuum_tasks.assembly.assemble import assemble, prove_assembled, whole
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.restore_point import likely_links
from continuum_tasks.errors import (
    ContinuumError,
    DatabaseLocked,
    IntegrityError,
    NewerFormat,
    ObjectDamaged,
    ObjectMissing,
    ProofFailed,
    StorageError,
)
from continuum_tasks.host import measure
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Attestation, Backup, BackupId, Level, Manifest, Progress, StoredObject
from continuum_tasks.repository.repository import IDENTITY_KEY, Repository
from continuum_tasks.sqlite import check
from continuum_tasks.sqlite.staging import check_space

MAX_FINDINGS = 50
RESTORED = "restored.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What to verify and how deep; `database` empty = searched for in the storage.

    `each_link`: whatever the level, read every stored byte of the chain and say so of each link.
    """

    backup_id: BackupId
    level: Level
    each_link: bool = False
    database: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A passed verification and its stored verdict. `findings` may hold what does not fail it, as foreign key violations."""

    backup: Backup
    attestation: Attestation


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyEvidence:
    """What a look at a backup found out about it."""

    findings: tuple[str, ...] = ()
    schema_digest: str = ""
    row_counts: tuple[tuple[str, int], ...] = ()


def verify_backup_chain(
    request: VerifyRequest, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, Verified]:
    """Verify one backup; yields progress. A failed verification is stored too, then raised.

    Raises ObjectMissing or IntegrityError naming the objects, after a passed one too when a document beside the backup is
    damaged; NewerFormat, KeyringError and other StorageErrors say nothing about the backup, so no verdict is stored.
    """
    begun = site.clock.monotonic()
    yield Progress(phase="plan")
    chain = repository.read_chain(
        request.backup_id,
        check_signature=request.level is not Level.OBJECTS,
        database=request.database,
        likely=likely_links(request.backup_id, repository=repository, site=site),
    )
    backup = chain[-1].backup
    try:
        beside = look_beside(chain, repository=repository)
        if request.each_link:
            yield from _each_link(chain, repository=repository, site=site)
        evidence = yield from _look(chain, request.level, repository=repository, site=site, fan=fan)
    except (IntegrityError, ObjectMissing) as err:
        failure = yield from judged(err, chain, repository=repository, site=site)
        attest(backup, verdict(request, site, begun, failure=failure), repository=repository, site=site)
        raise failure from err.__cause__
    attestation = verdict(request, site, begun, evidence=evidence)
    fresh = attest(backup, attestation, repository=repository, site=site)
    beside.pop(fresh, None)
    if beside:
        raise mended(beside, chain[-1], request.level, repository=repository)
    return Verified(backup=backup, attestation=attestation)


def judged(
    err: ContinuumError, chain: Sequence[Manifest], *, repository: Repository, site: HostContext
) -> Generator[Progress, None, ContinuumError]:
    """Return the failure that is to be stored. Raises NewerFormat: about what a newer version wrote there is no verdict.

    An object whose bytes are not those of its manifest is damaged, whichever version its header says.
    """
    if not isinstance(err, NewerFormat):
        return err
    bad = yield from _read_objects(chain, repository=repository, n_threads=site.settings.max_concurrent_uploads)
    if not bad:
        raise err
    return _summed_up([error for errors in bad.values() for error in errors])


def _look(
    chain: Sequence[Manifest], level: Level, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, VerifyEvidence]:
    if level is Level.OBJECTS:
        bad = yield from _read_objects(chain, repository=repository, n_threads=site.settings.max_concurrent_uploads)
        if bad:
            raise _summed_up([error for errors in bad.values() for error in errors])
        return VerifyEvidence()
    with site.scratch() as work:
        if level is Level.RESTORE:
            return (yield from restore_to_scratch(chain, work / RESTORED, repository=repository, site=site, fan=fan))
        yield from assemble(chain, None, work, repository=repository, fan=fan)
        return VerifyEvidence()


def restore_to_scratch(
    chain: Sequence[Manifest], target: Path, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, VerifyEvidence]:
    """Restore a chain to the new file `target` in a private directory, prove every page and let SQLite check it.

    Raises ObjectMissing, IntegrityError, KeyringError, StorageError, or NoSpace before the first byte.
    """
    last = chain[-1].backup
    check_space(target.parent, last.original_size_bytes, name=f"backup {last.id}")
    yield from assemble(chain, _empty_file(target, last.original_size_bytes), target.parent, repository=repository, fan=fan)
    yield Progress(phase="sync", total_bytes=last.original_size_bytes)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    yield from prove_assembled(whole(chain[-1]), target, target.parent, site=site)
    yield Progress(phase="check", total_bytes=last.original_size_bytes)
    return _examine(last, target)


def _each_link(chain: Sequence[Manifest], *, repository: Repository, site: HostContext) -> Generator[Progress, None, None]:
    """Read all stored bytes of a chain once, and store an `objects` verdict about each link but the last.

    A link passes when its bytes and those of all links below it are sound. Raises what is wrong when anything is.
    """
    begun = site.clock.monotonic()
    bad = yield from _read_objects(chain, repository=repository, n_threads=site.settings.max_concurrent_uploads)
    wrong: list[ContinuumError] = []
    for number, manifest in enumerate(chain):
        wrong += bad.get(manifest.backup.id, ())
        if number < len(chain) - 1:
            request = VerifyRequest(backup_id=manifest.backup.id, level=Level.OBJECTS)
            failure = _summed_up(wrong) if wrong else None
            _store(manifest.backup, verdict(request, site, begun, failure=failure), repository=repository, site=site)
    if wrong:
        raise _summed_up(wrong)


def look_beside(chain: Sequence[Manifest], *, repository: Repository) -> dict[str, ContinuumError]:
    """Return what is wrong, by key, with the repository's identity and the chain's stored verdicts.

    Raises ProofFailed when the identity is sound and another's: then the backup is not what it is listed as.
    """
    found: dict[str, ContinuumError] = {}
    try:
        if repository.identity().repository_id != chain[-1].repository_id:
            raise ProofFailed(
                f"backup {chain[-1].backup.id}: belongs to another repository", hint="two repositories were mixed"
            )
    except (ObjectDamaged, ObjectMissing) as err:
        found[IDENTITY_KEY] = err
    for key, verdict in repository.chain_attestations(chain):
        if isinstance(verdict, IntegrityError) and not isinstance(verdict, NewerFormat):  # what a newer version said stays
            found[key] = verdict
    return found


def mended(beside: Mapping[str, ContinuumError], manifest: Manifest, level: Level, *, repository: Repository) -> ObjectDamaged:
    """Mend what this level may, and return the error that names every document and says what was done about it.

    Only a manifest whose signature was checked says who the repository is, which `objects` does not do.
    """
    done = []
    for key in beside:
        if key == IDENTITY_KEY and level is not Level.OBJECTS:
            done.append(_tried(partial(repository.restore_identity, manifest), f"{key} was written again"))
        elif key != IDENTITY_KEY and level is Level.RESTORE:
            done.append(_tried(partial(repository.storage.delete, key), f"{key} was removed"))
        else:
            done.append(f"{key} was left: `continuum backup verify --level restore` mends it")
    shown = "; ".join(error.message for error in [*beside.values()][:MAX_FINDINGS])
    return ObjectDamaged(
        f"backup {manifest.backup.id}: passed at level {level}, but beside it: {shown}", hint="; ".join(done[:MAX_FINDINGS])
    )


def _tried(act: Callable[[], object], what: str) -> str:
    try:
        act()
    except StorageError as err:
        return f"not done: {what} ({err.message})"
    return what


def _read_objects(
    chain: Sequence[Manifest], *, repository: Repository, n_threads: int
) -> Generator[Progress, None, dict[BackupId, list[ContinuumError]]]:
    """Read every stored byte of a chain; returns what is wrong, by the link it was found in."""
    objects = [stored for manifest in chain for stored in manifest.objects]
    links = [manifest.backup.id for manifest in chain for _ in manifest.objects]
    total = sum(stored.size_bytes for stored in objects)
    n_bytes, bad = 0, dict[BackupId, list[ContinuumError]]()
    yield Progress(phase="read", total_bytes=total)

    def read(stored: StoredObject) -> ContinuumError | None:
        try:
            _check_object(stored, repository)
        except (IntegrityError, ObjectMissing) as err:
            return err
        return None

    with ThreadPoolExecutor(n_threads) as pool:
        for link, stored, error in zip(links, objects, pool.map(read, objects), strict=True):
            n_bytes += stored.size_bytes
            if error is not None:
                bad.setdefault(link, []).append(error)
            yield Progress(phase="read", n_bytes=n_bytes, total_bytes=total)
    return bad


def _check_object(stored: StoredObject, repository: Repository) -> None:
    data = repository.storage.get(stored.key)
    if len(data) != stored.size_bytes or hashlib.sha256(data).hexdigest() != stored.sha256:
        raise ObjectDamaged(
            f"object {stored.key}: its {len(data)} bytes do not have the SHA-256 in the manifest",
            hint="restore another backup; the next incremental will not build on this one",
        )


def _summed_up(errors: Sequence[ContinuumError]) -> ContinuumError:
    """Return the first error, naming the objects of all of them."""
    if len(errors) == 1:
        return errors[0]
    shown = "; ".join(error.message for error in errors[:MAX_FINDINGS])
    return type(errors[0])(f"{len(errors)} objects are bad: {shown}", hint=errors[0].hint)


def _empty_file(path: Path, size_bytes: int) -> Path:
    with path.open("xb") as file:
        file.truncate(size_bytes)
    return path


def _examine(backup: Backup, restored: Path) -> VerifyEvidence:
    problems = check.integrity_check(restored)
    if problems:
        raise ProofFailed(
            f"backup {backup.id}: restores as it was made, but SQLite finds in it: {'; '.join(problems[:5])}",
            hint="the source was damaged before this backup; go back to an older verified one",
        )
    broken = check.foreign_key_check(restored)
    return VerifyEvidence(
        findings=tuple(f"foreign key: {row}" for row in broken[:MAX_FINDINGS]),
        schema_digest=check.schema_digest(restored),
        row_counts=check.row_counts_file(restored),
    )


def verdict(
    request: VerifyRequest,
    site: HostContext,
    begun: float,
    *,
    evidence: VerifyEvidence | None = None,
    failure: ContinuumError | None = None,
) -> Attestation:
    """Return the verdict of a verification that began at `begun` on the site's monotonic clock."""
    evidence = evidence or VerifyEvidence(findings=() if failure is None else (failure.message,))
    return Attestation(
        backup_id=request.backup_id,
        level=request.level,
        passed=failure is None,
        at=site.clock.now(),
        duration_seconds=round(site.clock.monotonic() - begun, 3),
        host=site.host,
        findings=evidence.findings,
        schema_digest=evidence.schema_digest,
        row_counts=evidence.row_counts,
    )


def attest(backup: Backup, attestation: Attestation, *, repository: Repository, site: HostContext) -> str:
    """Store a verdict beside its backup and in the catalog, and keep how long it took; returns its key.

    Raises DatabaseLocked or BackupNotFound for a failure of a chain that retention rolled forward or expired meanwhile.
    """
    if not attestation.passed:
        _check_unchanged(backup, attestation, repository=repository)
    key = _store(backup, attestation, repository=repository, site=site)
    measure.measure_verification(backup, attestation.duration_seconds, site=site)
    return key


def _check_unchanged(backup: Backup, attestation: Attestation, *, repository: Repository) -> None:
    begun = attestation.at - timedelta(seconds=attestation.duration_seconds)
    try:
        chain = repository.read_chain(backup.id, check_signature=False)
    except NewerFormat:
        raise
    except IntegrityError:
        return  # its documents are damaged: the failure stands
    links = [manifest.backup for manifest in chain]
    if links[-1].rolled_at != backup.rolled_at or any(b.rolled_at is not None and b.rolled_at > begun for b in links):
        raise DatabaseLocked(
            f"backup {backup.id}: its chain was rolled forward while it was read", hint="nothing is wrong with it; start again"
        )


def _store(backup: Backup, attestation: Attestation, *, repository: Repository, site: HostContext) -> str:
    key = repository.put_attestation(backup.database, attestation, key_id=backup.key_id)
    site.catalog.attest(backup.storage, attestation)
    return key
