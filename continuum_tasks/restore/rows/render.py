"""Picked rows as text: SQL statements, JSON lines, or values to show."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import apsw

from continuum_tasks.restore.rows.select import ROWS, SelectedRows, immutable
from continuum_tasks.restore.rows.table import listed_columns, quoted_identifier


class Form(StrEnum):
    SQL = "sql"
    LINES = "lines"


def written(picked: SelectedRows, form: Form) -> Iterator[bytes]:
    """Yield all rows as lines in UTF-8: one JSON object each, or INSERTs in one transaction; no row that is there changes."""
    yield from _statements(picked) if form is Form.SQL else _lines(picked)


def values(picked: SelectedRows, *, limit: int, ids: tuple[int, ...] | None = None) -> list[dict[str, Any]]:
    """Return the first rows, or those of these numbers, as JSON values by column."""
    chosen = "" if ids is None else f"WHERE n IN ({', '.join(str(int(n)) for n in ids)}) "
    with _opened(picked) as connection:
        return list(_decoded(connection, picked, f"{chosen}ORDER BY n LIMIT {int(limit)}"))


def _lines(picked: SelectedRows) -> Iterator[bytes]:
    with _opened(picked) as connection:
        for row in _decoded(connection, picked, "ORDER BY n"):
            yield json.dumps(row, allow_nan=False).encode() + b"\n"


def _statements(picked: SelectedRows) -> Iterator[bytes]:
    into = f"INSERT INTO {quoted_identifier(picked.shape.name)} ({listed_columns(picked.columns)}) VALUES ("  # noqa: S608
    names = [f"c{number}" for number in range(len(picked.columns))]
    # As bytes: text that is not valid in its encoding must come out as it is.
    raw = ", ".join(
        f"CAST(CASE typeof({c}) WHEN 'text' THEN {c} ELSE quote({c}) END AS BLOB), typeof({c}) = 'text'" for c in names
    )
    yield b"BEGIN;\n"
    with _opened(picked) as connection:
        for row in connection.execute(f"SELECT {raw} FROM {ROWS} ORDER BY n"):  # noqa: S608
            literals = (_literal(v, picked.encoding, text=bool(t)) for v, t in zip(row[::2], row[1::2], strict=True))
            yield into.encode() + b", ".join(literals) + b") ON CONFLICT DO NOTHING;\n"
    yield b"COMMIT;\n"


def _literal(value: Any, encoding: str, *, text: bool) -> bytes:
    data: bytes = value if encoding == "utf-8" else value.decode(encoding, "replace").encode()
    if not text:
        return data
    # A statement ends at a NUL, so it is put together from its parts.
    return b" || char(0) || ".join(b"'" + part.replace(b"'", b"''") + b"'" for part in data.split(b"\0"))


def _decoded(connection: apsw.Connection, picked: SelectedRows, rest: str) -> Iterator[dict[str, Any]]:
    names = [f"c{number}" for number in range(len(picked.columns))]
    raw = ", ".join(f"CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END, typeof({c}) = 'text'" for c in names)
    for row in connection.execute(f"SELECT {raw} FROM {ROWS} {rest}"):  # noqa: S608
        pairs = zip(row[::2], row[1::2], strict=True)
        yield {
            name: _value(value, picked.encoding if is_text else "")
            for name, (value, is_text) in zip(picked.columns, pairs, strict=True)
        }


def _value(value: Any, encoding: str) -> Any:
    if isinstance(value, bytes):
        try:
            if encoding:
                return value.decode(encoding)
        except UnicodeDecodeError:
            pass
        return {"base64": base64.b64encode(value).decode("ascii"), "type": "text" if encoding else "blob"}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": str(value)}
    return value


@contextmanager
def _opened(picked: SelectedRows) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(immutable(picked.path), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        yield connection
    finally:
        connection.close()
