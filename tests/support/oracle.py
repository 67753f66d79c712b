"""What a database holds, by another SQLite in another process: the standard library's, while the product has apsw."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support import other


def integrity(path: Path) -> str:
    """Return what `PRAGMA integrity_check` says: `ok`, or its findings, one a line."""
    return other.run(path, "print(*(row[0] for row in connect().execute('PRAGMA integrity_check')), sep='\\n')")


def dump(path: Path) -> str:
    """Return all that is in a sound database, as SQL; a damaged one fails the test."""
    code = "c = connect(); print(c.execute('PRAGMA integrity_check').fetchone()[0]); print('\\n'.join(c.iterdump()))"
    verdict, _, text = other.run(path, code).partition("\n")
    assert verdict == "ok", f"{path}: {verdict}"
    return text


def digest(path: Path) -> str:
    """Return the SHA-256 of all that is in a sound database."""
    return hashlib.sha256(dump(path).encode("utf-8", "surrogateescape")).hexdigest()
