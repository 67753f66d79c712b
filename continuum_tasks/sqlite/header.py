"""What the first 100 bytes of a database file say. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

from continuum_tasks.errors import SourceRefused
from continuum_tasks.sqlite.plan.formats import content_refusal

SAMPLE_BYTES = 4096
_WAL_VERSION = 2


class AutoVacuum(StrEnum):
    NONE = "none"
    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseHeader:
    """The header's facts. `n_pages` is 0 when an old SQLite wrote the file last and left the count stale."""

    page_size: int
    n_pages: int
    wal: bool
    change_counter: int
    reserved_bytes: int
    schema_cookie: int
    auto_vacuum: AutoVacuum


def parse_header(data: bytes, *, name: str) -> DatabaseHeader:
    """Read the first bytes of a database file; give `SAMPLE_BYTES` so that encryption can be told from other content.

    Raises SourceRefused, naming what it is, for what is no SQLite 3 database of a format that can be backed up.
    """
    foreign = content_refusal(data, name)
    if foreign is not None:
        raise SourceRefused(f"{name}: {foreign.what}", hint=foreign.remedy)
    (stored,) = struct.unpack_from(">H", data, 16)
    change_counter, n_pages = struct.unpack_from(">II", data, 24)
    (largest_root,) = struct.unpack_from(">I", data, 52)
    (incremental,) = struct.unpack_from(">I", data, 64)
    return DatabaseHeader(
        page_size=65536 if stored == 1 else stored,
        n_pages=n_pages if struct.unpack_from(">I", data, 92)[0] == change_counter else 0,
        wal=data[19] == _WAL_VERSION,
        change_counter=change_counter,
        reserved_bytes=data[20],
        schema_cookie=struct.unpack_from(">I", data, 40)[0],
        auto_vacuum=_auto_vacuum(largest_root, incremental),
    )


def _auto_vacuum(largest_root: int, incremental: int) -> AutoVacuum:
    if not largest_root:
        return AutoVacuum.NONE
    return AutoVacuum.INCREMENTAL if incremental else AutoVacuum.FULL
