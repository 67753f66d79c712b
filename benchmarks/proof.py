"""Prove that a restored file is the database that was backed up, with nothing of the product's: no tool wins by doing less."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from continuum_tasks.sample import oracle

# Page 1 of a copy by SQLite's backup API may differ here, and only here: change counter, schema cookie, version-valid-for.
VOLATILE = ((24, 28), (40, 44), (92, 100))
_PIECE_BYTES = 1 << 20


class Equal(StrEnum):
    """How a restored file equals its source: in every byte but the counters of page 1, or in schema and every row."""

    BYTES = "bytes"
    ROWS = "rows"


@dataclass(slots=True, kw_only=True)
class Reference:
    """What a source is; the logical hash is taken only when some file is not byte-equal."""

    path: Path
    sha256: str
    logical: str = ""


def take(source: Path) -> Reference:
    """Take the reference of a database that nobody has open and that has no -wal."""
    return Reference(path=source, sha256=masked_sha256(source))


def prove(restored: Path, reference: Reference, *, tool: str) -> Equal:
    """Return how a restored file equals its source. Raises RuntimeError naming the tool when it does not."""
    if masked_sha256(restored) == reference.sha256:
        return Equal.BYTES
    reference.logical = reference.logical or oracle.logical_hash(reference.path).sha256
    if oracle.logical_hash(restored).sha256 != reference.logical:
        raise RuntimeError(f"{tool}: {restored} is not the database that was backed up")
    return Equal.ROWS


def masked_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a database file with the counters of page 1 as zeros."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        start = bytearray(file.read(_PIECE_BYTES))
        for first, end in VOLATILE:
            start[first:end] = bytes(end - first)
        hasher.update(start)
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()
