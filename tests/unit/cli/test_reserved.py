"""What would have SQLite write into pages with reserved bytes is refused by name, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import reserving
from tests.support.reserving import files
from tests.unit.cli.conftest import Call


@pytest.fixture
def live(site: Path) -> Path:
    """The configured database, with page checksums, at rest."""
    path = site / "memory.db"
    path.unlink()
    reserving.run(path, "create(path, 4096, 8, 'delete').close()")
    return path


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_rows_are_not_brought_into_pages_with_reserved_bytes(call: Call, live: Path, mode: str, words: tuple[str, ...]) -> None:
    reserving.run(live, f"c = connect(); c.execute('PRAGMA journal_mode={mode}'); c.close()")
    made = call("backup", "create", "--strategy", "full", "--format", "json").json["backup_id"]
    reserving.run(live, "c = connect(); c.execute('DELETE FROM t WHERE id < 9'); c.close()")
    before = files(live)
    done = call("backup", "extract", made, "--table", "t", "--into", "memory.db", *words)
    assert done.code == 9 and "8 bytes are reserved on every page" in done.err and "--output" in done.err, done.err
    assert files(live) == before and reserving.judge(live) == "[] ok"
    assert call("backup", "extract", made, "--table", "t", "--where", "id < 9", "--output", "rows.sql").code == 0


def test_rows_are_not_brought_in_when_the_log_alone_knows_of_reserved_bytes(call: Call, site: Path, live: Path) -> None:
    made = call("backup", "create", "--strategy", "full", "--format", "json").json["backup_id"]
    other = site / "other.db"
    with reserving.living(other, reserving.SWITCHED):
        before = files(other)
        done = call("backup", "extract", made, "--table", "t", "--into", "other.db")
        assert done.code == 9 and "8 bytes are reserved on every page" in done.err, done.err
        assert files(other) == before and "other.db-wal" in before


def test_such_a_database_is_not_switched_to_wal_mode(call: Call, live: Path) -> None:
    before = files(live)
    done = call("backup", "enable-wal", "memory", "--yes")
    assert done.code == 4 and "8 bytes are reserved on every page" in done.err, done.err
    assert files(live) == before


def test_such_a_log_is_not_captured(call: Call, site: Path, live: Path) -> None:
    reserving.run(live, "c = connect(); c.execute('PRAGMA journal_mode=wal'); c.close()")
    before, configured = files(live), (site / "etc" / "backup.conf").read_bytes()
    done = call("backup", "create", "--strategy", "continuous")
    assert done.code == 4 and "8 bytes are reserved on every page" in done.err and "incremental_every" in done.err, done.err
    assert files(live) == before and (site / "etc" / "backup.conf").read_bytes() == configured


def test_a_comparison_of_counts_and_a_check_change_nothing(call: Call, live: Path) -> None:
    reserving.run(live, "c = connect(); c.execute('PRAGMA journal_mode=wal'); c.close()")
    made = call("backup", "create", "--strategy", "full", "--format", "json").json["backup_id"]
    before = files(live)
    assert call("backup", "compare-counts", made, "memory.db").code == 0
    assert call("backup", "health").code in (0, 1, 2)
    assert files(live) == before and reserving.judge(live) == "[] ok"
