"""How picked rows meet a table of a live database: which are there, differ, are new, or lack a parent.

All is read; the statements run on a connection whose `main` is the live database and whose `picked` has the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import apsw

from continuum_tasks.restore.rows.select import ROWS, SelectedRows, affinity
from continuum_tasks.restore.rows.table import ForeignKey, Table, quoted_identifier

PRESENT = "continuum_present"
SAMPLE = 5


class OnConflict(StrEnum):
    """What becomes of a row whose key the live database has with other content."""

    SKIP = "skip"
    REPLACE = "replace"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """Rows to be written whose parent the live database lacks; `example` is the reference of one of them."""

    columns: tuple[str, ...]
    parent: str
    n_rows: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How many picked rows are new, the same, or in conflict (same key, other content).

    `n_clashes` of those to be written would break a UNIQUE index besides the key. `creates`: the live database has no
    such table. `differences` name what differs between the two schemas, `missing` the columns that need a value and have
    none. `sample`: numbers of rows to be written.
    """

    n_new: int
    n_same: int
    n_conflicts: int
    n_clashes: int
    orphans: tuple[Orphans, ...]
    creates: bool
    differences: tuple[str, ...]
    missing: tuple[str, ...]
    sample: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The pieces of SQL of one match. Aliases: `p` a picked row, `l` a live one. `columns` are written, by live name."""

    live: Table
    columns: tuple[str, ...]
    key: tuple[str, ...]
    is_new: str
    is_conflict: str
    differs: str = "0"


def terms(connection: apsw.Connection, picked: SelectedRows, live: Table | None) -> Terms:
    """Work out the statements' pieces; without a key all columns are compared, once, into a temporary table."""
    if live is None:
        return Terms(live=picked.shape, columns=picked.columns, key=picked.shape.key, is_new="1", is_conflict="0")
    theirs = {name.lower() for name in picked.columns}
    columns = tuple(name for name in live.writable if name.lower() in theirs)
    key = live.key if live.key and {name.lower() for name in live.key} <= theirs else ()
    if not key:
        _compare_whole_rows(connection, picked, live, columns)
        is_new = f"p.n NOT IN (SELECT n FROM temp.{PRESENT})"  # noqa: S608
        return Terms(live=live, columns=columns, key=(), is_new=is_new, is_conflict="0")
    found = f"SELECT 1 FROM main.{quoted_identifier(live.name)} AS l WHERE {equal(picked, key)}"  # noqa: S608
    rest = [name for name in columns if name not in key]
    tests = [f"l.{quoted_identifier(name)} COLLATE BINARY IS NOT p.{picked.column(name)}" for name in rest]
    differs = f"({' OR '.join(tests) or '0'})"
    return Terms(
        live=live,
        columns=columns,
        key=key,
        is_new=f"NOT EXISTS ({found})",
        is_conflict=f"EXISTS ({found} AND {differs})",
        differs=differs,
    )


def match(connection: apsw.Connection, picked: SelectedRows, live: Table | None, *, on_conflict: OnConflict) -> Match:
    """Look at every picked row. Raises apsw.Error."""
    found = terms(connection, picked, live)
    writes = f"({found.is_new} OR {found.is_conflict})" if on_conflict is OnConflict.REPLACE else f"({found.is_new})"
    n_new, n_conflicts = _count(connection, found.is_new), _count(connection, found.is_conflict)
    rows = connection.execute(f"SELECT n FROM picked.{ROWS} AS p WHERE {writes} LIMIT {SAMPLE}").fetchall()  # noqa: S608
    return Match(
        n_new=n_new,
        n_same=picked.n_rows - n_new - n_conflicts,
        n_conflicts=n_conflicts,
        n_clashes=0 if live is None else _count(connection, f"{writes} AND ({_clash(picked, found)})"),
        orphans=tuple(o for r in found.live.references if (o := _orphans(connection, picked, found, r, writes)) is not None),
        creates=live is None,
        differences=() if live is None else differences(picked.shape, live),
        missing=() if live is None else _missing(picked, live),
        sample=tuple(int(str(n)) for (n,) in rows),
    )


def equal(picked: SelectedRows, columns: tuple[str, ...]) -> str:
    """Return SQL that is true when a live row `l` has a picked row's values in these columns, as the live table compares."""
    return " AND ".join(f"l.{quoted_identifier(name)} IS p.{picked.column(name)}" for name in columns)


def differences(backup: Table, live: Table) -> tuple[str, ...]:
    """Name what differs between a table as it was backed up and as it is."""
    ours = {column.name.lower(): column for column in backup.columns}
    theirs = {column.name.lower(): column for column in live.columns}
    found = [f"column {ours[n].name} is only in the backup: its values are not inserted" for n in ours if n not in theirs]
    found += [f"column {theirs[n].name} is new since the backup: rows get its default" for n in theirs if n not in ours]
    for name in ours.keys() & theirs.keys():
        was, now = ours[name].kind, theirs[name].kind
        if affinity(was) != affinity(now):
            found.append(f"column {theirs[name].name} was {was or 'untyped'} and is {now or 'untyped'}")
    if [name.lower() for name in backup.key] != [name.lower() for name in live.key]:
        found.append(f"the primary key was ({', '.join(backup.key)}) and is ({', '.join(live.key)})")
    return tuple(sorted(found))


def _missing(picked: SelectedRows, live: Table) -> tuple[str, ...]:
    ours = {name.lower() for name in picked.columns}
    needed = (c for c in live.columns if c.required and not c.has_default and not c.generated)
    return tuple(column.name for column in needed if column.name.lower() not in ours)


def _count(connection: apsw.Connection, condition: str) -> int:
    return int(str(connection.execute(f"SELECT count(*) FROM picked.{ROWS} AS p WHERE {condition}").get))  # noqa: S608


def _compare_whole_rows(connection: apsw.Connection, picked: SelectedRows, live: Table, columns: tuple[str, ...]) -> None:
    """Keep the numbers of the picked rows that are there. One pass over the live table, each row looked up by the index."""
    same = " AND ".join(f"p.{picked.column(name)} IS l.{quoted_identifier(name)} COLLATE BINARY" for name in columns) or "0"
    connection.execute(f"DROP TABLE IF EXISTS temp.{PRESENT}")
    connection.execute(f"CREATE TEMP TABLE {PRESENT} (n INTEGER PRIMARY KEY)")
    connection.execute(
        f"INSERT OR IGNORE INTO temp.{PRESENT} SELECT p.n FROM main.{quoted_identifier(live.name)} AS l"  # noqa: S608
        f" CROSS JOIN picked.{ROWS} AS p WHERE {same}"
    )


def _clash(picked: SelectedRows, found: Terms) -> str:
    """Return SQL that is true for a row whose place in a UNIQUE index another live row has; NULLs never clash."""
    theirs = {name.lower() for name in found.columns}
    other = f" AND NOT ({equal(picked, found.key)})" if found.key else ""
    tests = []
    for columns in found.live.unique:
        if {name.lower() for name in columns} <= theirs:
            taken = " AND ".join(f"l.{quoted_identifier(name)} = p.{picked.column(name)}" for name in columns)
            tests.append(f"EXISTS (SELECT 1 FROM main.{quoted_identifier(found.live.name)} AS l WHERE {taken}{other})")  # noqa: S608
    return " OR ".join(tests) or "0"


def _orphans(
    connection: apsw.Connection, picked: SelectedRows, found: Terms, reference: ForeignKey, writes: str
) -> Orphans | None:
    theirs = {name.lower() for name in found.columns}
    if not {name.lower() for name in reference.columns} <= theirs:
        return None
    mine = [f"p.{picked.column(name)}" for name in reference.columns]
    condition = f"{writes} AND {' AND '.join(f'{column} IS NOT NULL' for column in mine)}"
    parent = connection.execute(
        "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", (reference.parent,)
    ).get
    if parent:
        pairs = " AND ".join(
            f"r.{quoted_identifier(to)} = {column}" for to, column in zip(reference.parent_columns, mine, strict=True)
        )
        condition += f" AND NOT EXISTS (SELECT 1 FROM main.{quoted_identifier(reference.parent)} AS r WHERE {pairs})"  # noqa: S608
    if reference.parent.lower() == found.live.name.lower():
        # The parent may be among the rows that come back with it.
        own = " AND ".join(
            f"q.{picked.column(to)} = {column}" for to, column in zip(reference.parent_columns, mine, strict=True)
        )
        condition += f" AND NOT EXISTS (SELECT 1 FROM picked.{ROWS} AS q WHERE {own})"  # noqa: S608
    n_rows = _count(connection, condition)
    if not n_rows:
        return None
    shown = " || ', ' || ".join(f"quote({column})" for column in mine)
    example = connection.execute(f"SELECT {shown} FROM picked.{ROWS} AS p WHERE {condition} LIMIT 1").get  # noqa: S608
    return Orphans(columns=reference.columns, parent=reference.parent, n_rows=n_rows, example=str(example)[:80])
