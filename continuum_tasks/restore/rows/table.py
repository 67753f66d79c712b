"""What a table is made of: columns, key, uniqueness, references, and its SQL. Read only."""

from __future__ import annotations

from dataclasses import dataclass

import apsw


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnShape:
    """`key` is the place in the primary key from 1, 0 outside it. `generated` columns cannot be written."""

    name: str
    kind: str
    required: bool
    has_default: bool
    key: int
    generated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key: `columns` of this table name a row of `parent` by its `parent_columns`."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A plain table. `unique` lists the columns of each whole-table UNIQUE index on plain columns, the key's not among them.

    `sql` makes the table, `companions` its indexes and triggers.
    """

    name: str
    columns: tuple[ColumnShape, ...]
    unique: tuple[tuple[str, ...], ...]
    references: tuple[ForeignKey, ...]
    sql: str
    companions: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns in order; empty for a table without one."""
        return tuple(column.name for column in sorted(self.columns, key=lambda c: c.key) if column.key)

    @property
    def writable(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if not column.generated)


def tables(connection: apsw.Connection, schema: str) -> dict[str, str]:
    """Return each name in a schema with its type: table, virtual, view or shadow; SQLite's own left out."""
    rows = connection.execute("SELECT name, type FROM pragma_table_list WHERE schema = ? ORDER BY name", (schema,))
    return {str(name): str(kind) for name, kind in rows if not str(name).startswith("sqlite_")}


def read_table(connection: apsw.Connection, schema: str, table: str) -> Table | None:
    """Return a plain table by its name in any case, None when there is none (or it is a view or a virtual table)."""
    names = {name.lower(): name for name, kind in tables(connection, schema).items() if kind == "table"}
    name = names.get(table.lower())
    if name is None:
        return None
    rows = connection.execute(
        f"SELECT type, sql FROM {quoted_identifier(schema)}.sqlite_schema"  # noqa: S608
        " WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY rowid",
        (name,),
    ).fetchall()
    return Table(
        name=name,
        columns=_columns(connection, schema, name),
        unique=_unique(connection, schema, name),
        references=_references(connection, schema, name),
        sql=next((str(sql) for kind, sql in rows if kind == "table"), ""),
        companions=tuple(str(sql) for kind, sql in rows if kind in ("index", "trigger")),
    )


def quoted_identifier(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def listed_columns(names: tuple[str, ...], *, of: str = "") -> str:
    """Return quoted column names with commas, each qualified by the alias `of` when one is given."""
    return ", ".join(f"{of}.{quoted_identifier(name)}" if of else quoted_identifier(name) for name in names)


def same(names: tuple[str, ...], left: str, right: str) -> str:
    """Return SQL that is true when two aliases have the same values in these columns, NULL being the same as NULL."""
    return " AND ".join(f"{left}.{quoted_identifier(name)} IS {right}.{quoted_identifier(name)}" for name in names) or "1"


def _columns(connection: apsw.Connection, schema: str, table: str) -> tuple[ColumnShape, ...]:
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?, ?) ORDER BY cid', (table, schema)
    )
    return tuple(
        ColumnShape(
            name=str(name),
            kind=str(kind),
            required=bool(notnull),
            has_default=default is not None,
            key=int(str(pk)),
            generated=bool(hidden),
        )
        for name, kind, notnull, default, pk, hidden in rows
    )


def _unique(connection: apsw.Connection, schema: str, table: str) -> tuple[tuple[str, ...], ...]:
    indexes = connection.execute(
        "SELECT name FROM pragma_index_list(?, ?) WHERE \"unique\" AND NOT partial AND origin <> 'pk'", (table, schema)
    ).fetchall()
    found = []
    for (index,) in indexes:
        columns = connection.execute("SELECT name FROM pragma_index_info(?, ?) ORDER BY seqno", (index, schema)).fetchall()
        if all(name is not None for (name,) in columns):  # None stands for an expression or the rowid
            found.append(tuple(str(name) for (name,) in columns))
    return tuple(found)


def _references(connection: apsw.Connection, schema: str, table: str) -> tuple[ForeignKey, ...]:
    rows = connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, ?) ORDER BY id, seq', (table, schema)
    ).fetchall()
    found = []
    for number in sorted({int(str(row[0])) for row in rows}):
        mine = [row for row in rows if row[0] == number]
        parent = str(mine[0][1])
        named = tuple(str(row[3]) for row in mine if row[3] is not None)
        columns = tuple(str(row[2]) for row in mine)
        found.append(ForeignKey(columns=columns, parent=parent, parent_columns=named or _key(connection, schema, parent)))
    return tuple(found)


def _key(connection: apsw.Connection, schema: str, table: str) -> tuple[str, ...]:
    rows = connection.execute("SELECT name FROM pragma_table_info(?, ?) WHERE pk ORDER BY pk", (table, schema))
    return tuple(str(name) for (name,) in rows)
