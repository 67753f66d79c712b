"""Pick rows of one table of a private copy into a small database of their own, by an expression.

The expression is somebody's text. It runs where it can read the copy and nothing else: the copy is opened immutable, no
other database is attached, and an authorizer refuses all but reading and harmless functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from continuum_tasks.errors import NoSpace, ProofFailed, UsageError
from continuum_tasks.restore.rows.table import Table, listed_columns, quoted_identifier, read_table, tables

ROWS = "continuum_picked"  # unlike any table a backup could have: bare names in the expression must mean the backup's
_REFUSED = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "eval", "sqlite_dbpage"}
_STEPS = 100_000  # between two looks at whether Ctrl-C was pressed: some 10 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedRows:
    """Rows in a file of their own: column `c<i>` holds `columns[i]` of the table; `encoding` is the codec of its text."""

    path: Path
    shape: Table
    columns: tuple[str, ...]
    n_rows: int
    encoding: str

    def column(self, name: str) -> str:
        """Return the column that holds a column of the table, by its name in any case."""
        return f"c{[own.lower() for own in self.columns].index(name.lower())}"


def check_expression(where: str) -> None:
    """Raise UsageError for what cannot be one expression, whatever the table; empty = all rows."""
    why = problem(where) if where else ""
    if why:
        raise UsageError(f"--where: {why}", hint="give one SQL expression, such as \"created_at >= '2025-12-06'\"")


def select_rows(copy: Path, picked: Path, table: str, *, where: str) -> SelectedRows:
    """Pick rows of a plain table of the private file `copy` into the new file `picked`.

    Raises UsageError for a table that is not there and for an expression SQLite does not take, ProofFailed, NoSpace.
    """
    check_expression(where)
    with _errors(copy):
        found, encoding = _look(copy, table)
        connection = apsw.Connection(f"file:{quote(str(picked))}", flags=_FLAGS)
        try:
            return _pick(connection, _Source(copy=copy, shape=found, encoding=encoding), picked, where)
        finally:
            connection.close()


_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    copy: Path
    shape: Table
    encoding: str


def _look(copy: Path, table: str) -> tuple[Table, str]:
    connection = apsw.Connection(immutable(copy), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        found = read_table(connection, "main", table)
        if found is None:
            plain = [name for name, kind in tables(connection, "main").items() if kind == "table"]
            kinds = {name.lower(): kind for name, kind in tables(connection, "main").items()}
            kind = kinds.get(table.lower(), "")
            what = f"is a {kind}{'' if kind == 'view' else ' table'}" if kind else "is not there"
            raise UsageError(f"--table {table[:80]!r}: {what} in the backup", hint=f"tables: {', '.join(plain)[:1000]}")
        return found, str(connection.execute("PRAGMA encoding").get)
    finally:
        connection.close()


def _pick(connection: apsw.Connection, source: _Source, picked: Path, where: str) -> SelectedRows:
    columns = source.shape.writable
    connection.execute(f"PRAGMA encoding = '{source.encoding}'; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").fetchall()
    kinds = {column.name: affinity(column.kind) for column in source.shape.columns}
    listing = "".join(f", c{number} {kinds[name]}" for number, name in enumerate(columns))
    connection.execute(f"CREATE TABLE {ROWS} (n INTEGER PRIMARY KEY{listing})")
    connection.execute("ATTACH ? AS backup", (immutable(source.copy),))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    names = ", ".join(f"c{number}" for number in range(len(columns)))
    statement = (
        f"INSERT INTO main.{ROWS} ({names}) SELECT {listed_columns(columns)} FROM backup.{quoted_identifier(source.shape.name)}"  # noqa: S608
    )
    if where:
        statement += f" WHERE (\n{where}\n)"
    connection.authorizer = _authorize
    connection.set_progress_handler(_go_on, _STEPS)
    try:
        connection.execute(statement)
        n_rows = connection.changes()
    except apsw.SQLError as err:
        raise UsageError(f"--where: {err}", hint=f"columns: {', '.join(columns)[:1000]}") from err
    except (apsw.AuthError, apsw.BindingsError, apsw.MismatchError, apsw.TooBigError) as err:
        raise UsageError(
            f"--where: {err}", hint="it may read the backup and call SQLite's own functions, nothing else"
        ) from err
    finally:
        connection.authorizer = None
        connection.set_progress_handler(None)
    if not source.shape.key and columns:  # whole rows will be looked up by value
        connection.execute(f"CREATE INDEX main.continuum_by_value ON {ROWS} ({names})")
    codec = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}[source.encoding]
    return SelectedRows(path=picked, shape=source.shape, columns=columns, n_rows=n_rows, encoding=codec)


def _authorize(operation: int, first: str | None, second: str | None, schema: str | None, _trigger: str | None) -> int:
    if operation in (apsw.SQLITE_SELECT, apsw.SQLITE_READ):
        return apsw.SQLITE_OK
    if operation == apsw.SQLITE_FUNCTION and (second or "").lower() not in _REFUSED:
        return apsw.SQLITE_OK
    if operation == apsw.SQLITE_INSERT and first == ROWS and schema == "main":
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY


def _go_on() -> bool:
    return False  # being called at all lets Python see a Ctrl-C


def immutable(path: Path) -> str:
    """Return the URI of a private file that nobody writes, so that nothing is made beside it."""
    return f"file:{quote(str(path.absolute()))}?immutable=1"


def affinity(kind: str) -> str:
    """Return the affinity of a declared type, by SQLite's rules; ANY keeps what it gets, as in a STRICT table."""
    kind = kind.upper()
    if "INT" in kind:
        return "INTEGER"
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in kind or kind in ("", "ANY"):
        return "BLOB"
    return "REAL" if any(part in kind for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


@contextmanager
def _errors(copy: Path) -> Iterator[None]:
    try:
        yield
    except apsw.FullError as err:
        raise NoSpace(f"{copy.parent}: disk full while rows were picked", hint="free space in temp_dir") from err
    except apsw.Error as err:
        raise ProofFailed(f"{copy}: cannot be read ({err})", hint="verify the backup it came from") from err


_MAX_CHARACTERS = 100_000


# A whole quoted text or comment, else one character; an open quote or comment matches as itself and is refused.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|.", re.DOTALL)


def problem(text: str) -> str:
    """Return why a text is not one whole expression, empty when it may be one."""
    if not text.strip():
        return "it is empty"
    if len(text) > _MAX_CHARACTERS or "\0" in text:
        return "it is too long" if "\0" not in text else "it holds a NUL"
    if not text.isascii() and text != text.encode(errors="replace").decode():
        return "it holds bytes that are not UTF-8"
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == ";":  # noqa: S105 - a word of SQL
            return "it holds a ';'"
        if token in ("$", "@", ":", "?", "#"):  # SQLite reads $x(...) as one word, with whatever is between the brackets
            return f"it holds a {token} outside quotes: parameters have no values here"
        if token in ("'", '"', "`", "["):
            return f"a {token} is never closed"
        depth += (token == "(") - (token == ")")  # noqa: S105 - brackets
        if depth < 0:
            return "a ) has no ("
    if depth:
        return "a ( is never closed"
    return "a /* is never closed" if _open_comment(text) else ""


def _open_comment(text: str) -> bool:
    outside = "".join(match[0] if len(match[0]) == 1 else " " for match in _TOKEN.finditer(text))
    return "/*" in outside
