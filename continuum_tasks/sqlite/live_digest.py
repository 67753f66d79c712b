"""sqlite/live_digest.py: the root over all pages of a database others may use, read through SQLite's file layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw

from continuum_tasks.errors import SourceRefused
from continuum_tasks.layer import digest
from continuum_tasks.layer.merge import lock_page
from continuum_tasks.sqlite import vfs

_READ_BYTES = 1024 * 1024


def root(path: Path, *, page_size: int, n_pages: int) -> str:
    """Return the root in hex; a file that changes meanwhile has another one. Raises SourceRefused when it cannot be read."""
    try:
        with vfs.opened(path) as file:
            return digest.root(_digests(file, page_size, n_pages))
    except apsw.Error as err:
        raise SourceRefused(f"{path}: cannot be read ({err})", hint="check its permissions and the disk") from err


def _digests(file: apsw.VFSFile, page_size: int, n_pages: int) -> Iterator[bytes]:
    step, locked = max(1, _READ_BYTES // page_size), lock_page(page_size)
    for first in range(1, n_pages + 1, step):
        n = min(step, n_pages + 1 - first)
        data = file.xRead(n * page_size, (first - 1) * page_size).ljust(n * page_size, b"\0")
        found = digest.digests_of(data, page_size)
        if first <= locked < first + n:
            at = (locked - first) * digest.DIGEST_BYTES
            found = found[:at] + digest.ZERO_DIGEST + found[at + digest.DIGEST_BYTES :]
        yield found
