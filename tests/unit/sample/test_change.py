"""Changing a fraction of the rows: as many as asked, few pages, always the same ones."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from continuum_tasks.sample.change import change
from continuum_tasks.sample.generate import SampleSpec, generate
from continuum_tasks.sample.oracle import logical_hash


def rows_of(path: Path, table: str) -> set[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute(f"SELECT * FROM {table}"))


def test_exactly_the_reported_rows_differ_and_their_sum_is_the_fraction(sample: Path, tmp_path: Path) -> None:
    copy = tmp_path / "before.db"
    shutil.copyfile(sample, copy)
    n_rows = sum(logical_hash(copy).counts.values())

    changed = change(sample, fraction=0.1, seed=2)

    assert all(len(rows_of(copy, table) - rows_of(sample, table)) == n for table, n in changed.items())
    assert all(changed.values())
    assert abs(sum(changed.values()) / n_rows - 0.1) < 0.01
    assert logical_hash(sample).counts == logical_hash(copy).counts


def test_one_row_in_a_thousand_touches_less_than_half_a_percent_of_the_pages(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    generate(path, SampleSpec(size_bytes=24 << 20))
    before = path.read_bytes()

    change(path, fraction=0.001, seed=1)

    after = path.read_bytes()
    n_touched = sum(before[at : at + 4096] != after[at : at + 4096] for at in range(0, len(before), 4096))
    assert len(after) == len(before)
    assert 0.0030 <= n_touched / (len(before) / 4096) <= 0.0045


def test_the_same_seed_changes_the_same_rows_to_the_same_values(sample: Path, tmp_path: Path) -> None:
    copies = [tmp_path / f"{n}.db" for n in range(3)]
    for copy, seed in zip(copies, (4, 4, 5), strict=True):
        shutil.copyfile(sample, copy)
        change(copy, fraction=0.02, seed=seed)

    first, again, other = (logical_hash(copy).sha256 for copy in copies)
    assert first == again
    assert first != other


def test_a_fraction_below_one_row_still_changes_one(sample: Path) -> None:
    assert sum(change(sample, fraction=1e-9, seed=1).values()) == 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_a_fraction_out_of_range_is_refused(sample: Path, fraction: float) -> None:
    before = logical_hash(sample)

    with pytest.raises(ValueError, match="fraction"):
        change(sample, fraction=fraction, seed=1)

    assert logical_hash(sample) == before
