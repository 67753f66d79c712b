"""As much of the sqlite3 shell as the runbook uses: [-readonly] FILE [SQL | .dump TABLE | .schema], or SQL from stdin."""

import sqlite3
import sys
from pathlib import Path

flags = [word for word in sys.argv[2:] if word.startswith("-")]
path, *asked = [word for word in sys.argv[2:] if not word.startswith("-")]
uri = Path(path).absolute().as_uri() + ("?mode=ro" if "-readonly" in flags else "")
connection = sqlite3.connect(uri, uri=True, isolation_level=None)
text = asked[0] if asked else sys.stdin.read()


def dump(table):
    print("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;")
    for (made,) in connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)):
        print(f"{made};")
    n_columns = len(connection.execute(f'SELECT * FROM "{table}" LIMIT 1').description)
    names = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')][:n_columns]
    quoted = " || ',' || ".join(f'quote("{name}")' for name in names)
    for (values,) in connection.execute(f'SELECT {quoted} FROM "{table}"'):
        print(f'INSERT INTO "{table}" VALUES({values});')
    print("COMMIT;")


def statements():
    piece = ""
    for line in text.splitlines(keepends=True):
        piece += line
        if sqlite3.complete_statement(piece):
            yield piece
            piece = ""
    if piece.strip():
        yield piece


code = 0
if text.startswith(".dump "):
    dump(text.split()[1])
elif text.startswith(".schema"):
    for (made,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
        print(f"{made};")
else:
    for statement in statements():
        try:
            for row in connection.execute(statement):
                print("|".join("" if value is None else str(value) for value in row))
        except sqlite3.Error as err:
            print(f"Error: {err}", file=sys.stderr)
            code = 1
sys.exit(code)
