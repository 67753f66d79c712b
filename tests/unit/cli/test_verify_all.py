"""`verify --since` and `verify-all`: every backup of a period is spoken for, at a price that a long chain can pay."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum_tasks.sample.change import change
from tests.unit.cli.calls import create, flip
from tests.unit.cli.conftest import Call

pytestmark = pytest.mark.slow


@pytest.fixture
def chain(call: Call, site: Path, full: str) -> list[str]:
    made = [full]
    for seed in range(3):
        change(site / "memory.db", fraction=0.02, seed=seed)
        made.append(create(call, "incremental"))
    return made


def levels(call: Call, backup_id: str) -> list[tuple[str, bool]]:
    found = call("backup", "info", backup_id, "--format", "json").json["attestations"]
    return [(verdict["level"], verdict["passed"]) for verdict in found]


@pytest.mark.parametrize("words", [("verify", "--since", "30d"), ("verify-all", "--since", "7d"), ("verify-all",)])
def test_every_backup_of_the_period_is_restored(call: Call, site: Path, chain: list[str], words: tuple[str, ...]) -> None:
    done = call("backup", *words, "--format", "json")

    assert done.code == 0, done.err
    assert [(verdict["backup_id"], verdict["level"], verdict["passed"]) for verdict in done.json] == [
        (backup_id, "restore", True) for backup_id in reversed(chain)
    ]
    assert len(call("backup", "list", "--verified-only", "--format", "json").json) == 4


def test_of_a_long_chain_a_few_are_restored_and_the_bytes_of_all_are_read(call: Call, site: Path, chain: list[str]) -> None:
    done = call("backup", "verify-all", "--per-chain", "1", "--format", "json")

    assert [(v["backup_id"], sorted(v["covers"])) for v in done.json] == [(chain[-1], sorted(chain[:-1]))]
    assert levels(call, chain[-1]) == [("restore", True)]
    assert [levels(call, backup_id) for backup_id in chain[:-1]] == [[("objects", True)]] * 3
    assert "all bytes of 3 more" in " ".join(call("backup", "verify-all", "--per-chain", "1").out.split())


def test_a_bad_byte_in_the_middle_condemns_its_link_and_what_builds_on_it_alone(
    call: Call, site: Path, chain: list[str]
) -> None:
    chunk = next((site / f"store/layers/memory/{chain[0]}/{chain[1]}").glob("*.chunk"))
    flip(chunk, chunk.stat().st_size // 2)

    done = call("backup", "verify-all", "--level", "objects", "--format", "json")

    assert done.code == 7 and chunk.name in done.err
    assert [levels(call, backup_id) for backup_id in chain] == [[("objects", passed)] for passed in (True, False, False, False)]


def test_the_first_failure_decides_and_the_others_are_verified_all_the_same(call: Call, site: Path, full: str) -> None:
    second = create(call)
    chunk = next((site / f"store/layers/memory/{second}").rglob("*.chunk"))
    flip(chunk, chunk.stat().st_size // 2)

    done = call("backup", "verify-all", "--since", "1h", "--format", "json")

    assert done.code == 7
    assert {v["backup_id"]: v["passed"] for v in done.json} == {full: True, second: False}


def test_a_period_without_backups_is_an_error_not_a_success(call: Call, site: Path, full: str) -> None:
    assert call("backup", "verify-all", "--since", "2999-01-01").code == 8
    assert call("backup", "verify-all", "--database", "other").code == 8


def test_suspect_backups_are_left_out_and_said(call: Call, site: Path, full: str) -> None:
    flip(site / "memory.db", 5 * 4096 + 3)
    suspect = create(call)

    done = call("backup", "verify-all", "--format", "json")

    assert done.code == 0 and suspect not in [verdict["backup_id"] for verdict in done.json]
    assert "1 suspect" in done.err


def test_verify_needs_ids_or_a_time_and_not_both(call: Call, site: Path, full: str) -> None:
    assert call("backup", "verify").code == 2
    assert call("backup", "verify", full, "--since", "1d").code == 2
    assert call("backup", "verify", "--since", "yesterday").code == 2
