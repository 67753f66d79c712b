"""Keep and find the page digests of a state: what the next backup compares with. A cache; the layers hold the truth."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from continuum_tasks.errors import ProofFailed
from continuum_tasks.host.site import HostContext
from continuum_tasks.layer.format import DIGEST_BYTES, HEADER_BYTES, digest_root, runs_of
from continuum_tasks.layer.reader import OpenedChunk, open_index
from continuum_tasks.model import Backup, Manifest, StoredObject
from continuum_tasks.repository.repository import Repository, chunk_context, key_context

PIECE_BYTES = 1 << 20
BATCH = 32  # indexes held at once: 32 x 8,192 pages x 20 bytes = 5 MB


def cached(backup: Backup, site: HostContext) -> Path | None:
    """Return this host's digest file of a backup if it is there and its root is the backup's."""
    path = _path(backup, site)
    try:
        fits = path.stat().st_size == backup.n_pages * DIGEST_BYTES
    except OSError:  # not kept, or not to be reached
        return None
    return path if fits and root_of(path) == backup.root else None


def rebuild(chain: list[Manifest], repository: Repository, into: Path) -> Path:
    """Write the digest file of a chain's last state from the page indexes of its objects, base first.

    Raises ObjectMissing, ObjectDamaged, KeyMissing, KeyWrong, or ProofFailed when the root does not come out right.
    """
    last = chain[-1].backup
    with into.open("wb") as file:
        file.truncate(last.n_pages * DIGEST_BYTES)
        for manifest in chain:
            for opened in indexes(manifest, repository):
                _lay(opened, file.fileno(), n_pages=last.n_pages)
    if root_of(into) != last.root:
        raise ProofFailed(f"backup {last.id}: its layers do not add up to its root", hint="make a full backup")
    return into


def indexes(manifest: Manifest, repository: Repository) -> Iterator[OpenedChunk]:
    """Open the page index of every object of a backup, in order, a few at a time and without reading the blocks."""
    context = key_context(manifest.repository_id, manifest.backup.base_id)
    data_key = repository.unwrap(manifest.wrapped_key, context=context)

    def fetch(item: tuple[int, StoredObject]) -> OpenedChunk:
        index, stored = item
        return open_index(
            repository.storage.get(stored.key, length=HEADER_BYTES),
            repository.storage.get(stored.key, offset=stored.index_offset, length=stored.index_bytes),
            context=chunk_context(manifest, index),
            data_key=data_key,
            name=stored.key,
            size_bytes=stored.size_bytes,
        )

    numbered = list(enumerate(manifest.objects))
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(numbered), BATCH):
            yield from pool.map(fetch, numbered[start : start + BATCH])


def keep_digests(backup: Backup, digests: Path, site: HostContext) -> None:
    """Keep a new backup's digest file, and of the older ones only its full's: a differential compares with that.

    The backup exists by now: where there is no room for a cache, the next increment reads the page indexes instead.
    """
    path = _path(backup, site)
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _drop_others(path, backup)
        _copy(digests, path)


def _drop_others(path: Path, backup: Backup) -> None:
    for other in path.parent.iterdir():
        if other.name not in (path.name, _name(backup.base_id)):
            other.unlink(missing_ok=True)


def _copy(digests: Path, path: Path) -> None:
    temporary = path.with_suffix(".part")
    try:
        shutil.copyfile(digests, temporary)
        temporary.chmod(0o600)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def root_of(path: Path) -> str:
    """Return the root (hex) over a digest file, read in pieces."""
    with path.open("rb") as file:
        return digest_root(iter(lambda: file.read(PIECE_BYTES), b""))


def _lay(opened: OpenedChunk, descriptor: int, *, n_pages: int) -> None:
    at, digests = 0, opened.index.digests
    for first, count in runs_of(opened.index.pgnos):
        inside = min(count, max(0, n_pages - first + 1))
        os.pwrite(descriptor, digests[at : at + inside * DIGEST_BYTES], (first - 1) * DIGEST_BYTES)
        at += count * DIGEST_BYTES


def _path(backup: Backup, site: HostContext) -> Path:
    return site.state_dir / "digests" / backup.storage / backup.database / _name(backup.id)


def _name(backup_id: str) -> str:
    return f"{backup_id}.digests"
