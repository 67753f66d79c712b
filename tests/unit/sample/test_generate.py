"""The sample generator: what is asked for is what is made."""

from __future__ import annotations

import math
import re
import sqlite3
import struct
import zlib
from array import array
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from continuum_tasks.sample import text
from continuum_tasks.sample.generate import JournalMode, SampleSpec, generate
from continuum_tasks.sample.oracle import logical_hash
from continuum_tasks.sample.rows import build, vector

MIB = 1 << 20
TABLES = {
    *("entities", "messages", "decisions", "attention_links", "compound_concepts", "auto_messages", "intentions"),
    *("concept_evolution", "thinking_snapshots", "code_memories", "tenants", "embeddings"),
}


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def test_the_same_seed_and_size_give_the_same_file_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"

    generate(first, SampleSpec(size_bytes=MIB, seed=5))
    generate(second, SampleSpec(size_bytes=MIB, seed=5))

    assert first.read_bytes() == second.read_bytes()


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"

    generate(first, SampleSpec(size_bytes=MIB, seed=5))
    generate(second, SampleSpec(size_bytes=MIB, seed=6))

    one, other = logical_hash(first), logical_hash(second)
    assert one.schema == other.schema
    assert all(one.tables[table] != other.tables[table] for table in TABLES)


def test_the_rows_do_not_depend_on_the_journal_mode(tmp_path: Path) -> None:
    delete, wal = tmp_path / "delete.db", tmp_path / "wal.db"

    generate(delete, SampleSpec(size_bytes=MIB, journal_mode=JournalMode.DELETE))
    generate(wal, SampleSpec(size_bytes=MIB, journal_mode=JournalMode.WAL))

    assert logical_hash(delete) == logical_hash(wal)


@pytest.mark.parametrize(
    ("size_bytes", "page_size"),
    [
        (MIB // 2, 512),
        (MIB // 2, 4096),
        (3 * MIB, 1024),
        (3 * MIB, 4096),
        (5 * MIB, 16384),
        (4 * MIB, 65536),
        (12 * MIB, 65536),
        (20 * MIB + 4321, 4096),
    ],
)
def test_the_size_is_within_five_percent_at_any_page_size(tmp_path: Path, size_bytes: int, page_size: int) -> None:
    path = tmp_path / "memory.db"

    generate(path, SampleSpec(size_bytes=size_bytes, page_size=page_size))

    assert abs(path.stat().st_size / size_bytes - 1) <= 0.05
    assert query(path, "PRAGMA page_size") == [(page_size,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_every_table_has_rows_and_there_are_twenty_two_indexes(sample: Path) -> None:
    counts = logical_hash(sample).counts

    assert set(counts) - {"sqlite_sequence"} == TABLES
    assert all(counts.values())
    assert query(sample, "SELECT count(*) FROM sqlite_schema WHERE type = 'index'") == [(22,)]


@pytest.mark.parametrize(("mode", "version"), [(JournalMode.DELETE, b"\x01\x01"), (JournalMode.WAL, b"\x02\x02")])
def test_the_header_carries_the_journal_mode_and_nothing_is_left_beside_the_file(
    tmp_path: Path, mode: JournalMode, version: bytes
) -> None:
    path = tmp_path / "memory.db"

    generate(path, SampleSpec(size_bytes=MIB, journal_mode=mode))

    assert path.read_bytes()[18:20] == version
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_reference_finds_its_row_and_every_vector_its_owner(sample: Path) -> None:
    owners = query(sample, "SELECT DISTINCT owner_kind FROM embeddings")

    assert query(sample, "PRAGMA foreign_key_check") == []
    assert len(owners) == 4
    for (kind,) in owners:
        assert query(sample, f"SELECT owner_id FROM embeddings WHERE owner_kind = '{kind}' EXCEPT SELECT id FROM {kind}") == []


@pytest.mark.parametrize(
    "column",
    [
        *("tenants.settings", "entities.properties", "messages.metadata", "decisions.alternatives", "intentions.plan"),
        *("compound_concepts.entity_ids", "concept_evolution.state", "thinking_snapshots.state"),
    ],
)
def test_json_columns_hold_json(sample: Path, column: str) -> None:
    table, name = column.split(".")

    assert query(sample, f"SELECT count(*) FROM {table} WHERE NOT json_valid({name})") == [(0,)]


def test_vectors_are_unit_norm_and_do_not_compress(sample: Path) -> None:
    blobs = [blob for (blob,) in query(sample, "SELECT vector FROM embeddings")]

    assert all(isinstance(blob, bytes) and len(blob) == 4 * 384 for blob in blobs)
    norms = [math.sqrt(sum(value * value for value in struct.unpack("<384f", blob))) for blob in blobs]
    assert all(abs(norm - 1) < 0.01 for norm in norms)
    joined = b"".join(blobs)
    assert len(zstandard.compress(joined, 1)) / len(joined) > 0.85
    assert len(zstandard.compress(joined, 19)) / len(joined) > 0.8


def test_vectors_look_gaussian_and_differ_from_each_other() -> None:
    rng = text.seeded("vectors under test")
    pool = build(rng, n_bases=8)

    made = [vector(pool, rng) for _ in range(500)]

    values = array("f", b"".join(made))
    scaled = [value * math.sqrt(384) for value in values]
    within_one_sigma = sum(abs(value) < 1 for value in scaled) / len(scaled)
    assert len(set(made)) == 500
    assert 0.66 < within_one_sigma < 0.71  # 0.683 for a gaussian


def test_the_commonest_words_make_up_far_more_of_the_text_than_the_rest(sample: Path) -> None:
    prose = " ".join(str(content) for (content,) in query(sample, "SELECT content FROM messages"))

    ranked = [n for _, n in Counter(re.findall(r"\w+", prose.lower())).most_common()]

    assert sum(ranked[:10]) > 0.15 * sum(ranked)
    assert len(ranked) > 2000  # and a long tail
    assert ranked[len(ranked) // 2] <= 2


def test_a_file_compresses_like_a_real_memory_and_forty_percent_of_it_are_vectors(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    generate(path, SampleSpec(size_bytes=16 * MIB))
    data = path.read_bytes()

    blocks = [data[at : at + 256 * 1024] for at in range(0, len(data), 256 * 1024)]
    ratio = sum(len(zstandard.compress(block, 1)) for block in blocks) / len(data)
    ((vector_bytes,),) = query(path, "SELECT sum(length(vector)) FROM embeddings")

    assert 0.54 <= ratio <= 0.60
    assert 0.37 <= vector_bytes / len(data) <= 0.43
    assert len(zlib.compress(data)) / len(data) > 0.5  # and no other codec finds a trick


def test_an_existing_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.write_bytes(b"mine")

    with pytest.raises(FileExistsError):
        generate(path, SampleSpec(size_bytes=MIB))

    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(("size_bytes", "page_size"), [(MIB, 4095), (MIB, 131072), (1000, 4096), (MIB, 65536)])
def test_a_size_that_no_sample_can_have_is_refused(size_bytes: int, page_size: int) -> None:
    with pytest.raises(ValueError, match="size"):
        SampleSpec(size_bytes=size_bytes, page_size=page_size)
