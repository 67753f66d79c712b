"""Live databases and the orders to write another state into them."""

from __future__ import annotations

from pathlib import Path

from continuum_tasks.layer.format import digests_of
from continuum_tasks.restore.install.online import page_library
from continuum_tasks.restore.install.overwrite import Order
from tests.support.other import run

FILL = """
c.execute('BEGIN'); c.executemany('INSERT INTO t(x) VALUES (?)', [('row %d ' % i * 60,) for i in range({n})])
c.execute('COMMIT')
"""


def database(path: Path, *, n_rows: int, auto_vacuum: int = 0, page_size: int = 4096, then: str = "") -> Path:
    code = f"""
c = connect(); c.execute('PRAGMA page_size={page_size}'); c.execute('PRAGMA auto_vacuum={auto_vacuum}')
c.execute('CREATE TABLE t(id INTEGER PRIMARY KEY, x)')
{FILL.format(n=n_rows)}
{then}
c.close()
"""
    run(path, code)
    return path


def order(live: Path, source: Path, **words: object) -> Order:
    data = source.read_bytes()
    page_size = int.from_bytes(data[16:18], "big")
    expected = source.with_name("expected")
    expected.write_bytes(digests_of(data, page_size))
    usual = {"window_seconds": 60.0, "quarantine": str(live.with_name("quarantine")), "lock_wait_seconds": 30.0}
    return Order(
        library=str(page_library()),
        live=str(live),
        expected=str(expected),
        page_size=page_size,
        n_pages=len(data) // page_size,
        source=str(source),
        **{**usual, **words},  # type: ignore[arg-type]
    )
