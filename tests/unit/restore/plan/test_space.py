"""How a backup comes back: which layers, in which order, how many bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.chain import check_chain
from continuum_tasks.model import Backup, Manifest, SourceFacts
from continuum_tasks.restore.plan.space import SPACE_MARGIN_BYTES, plan_restore
from tests.unit.retention.plan.rows import backup, identify

CHAIN = [backup(0, stored_size_bytes=100), backup(1, parent=0, stored_size_bytes=20), backup(2, parent=1, stored_size_bytes=3)]


def manifest(one: Backup, *, repository_id: str = "r1") -> Manifest:
    source = SourceFacts(path="/srv/memory.db", mode=0o600, uid=0, gid=0, journal_mode="wal")
    return Manifest(
        repository_id=repository_id,
        backup=one,
        source=source,
        wrapped_key=None,
        objects=(),
        tool_version="0",
        checked="quick",
        sqlite_version="3.51.3",
    )


def test_layers_come_oldest_first_and_their_stored_bytes_add_up() -> None:
    wanted = plan_restore(CHAIN[2], CHAIN[::-1])

    assert wanted.layers == tuple(CHAIN)
    assert wanted.fetch_bytes == 123
    assert wanted.space_bytes == CHAIN[2].original_size_bytes + SPACE_MARGIN_BYTES


def test_what_came_after_the_wanted_backup_is_not_fetched() -> None:
    assert plan_restore(CHAIN[1], CHAIN).layers == tuple(CHAIN[:2])


def test_a_link_that_is_only_in_another_storage_is_gone() -> None:
    elsewhere = [CHAIN[0], replace(CHAIN[1], storage="s3"), CHAIN[2]]

    with pytest.raises(BackupNotFound, match=f"its link {identify(1)} is gone"):
        plan_restore(CHAIN[2], elsewhere)


def test_one_chain_base_first_is_accepted() -> None:
    check_chain([manifest(one) for one in CHAIN])
    check_chain([manifest(CHAIN[0])])


@pytest.mark.parametrize(
    "odd",
    [
        manifest(replace(CHAIN[1], parent_id=identify(7))),
        manifest(replace(CHAIN[1], parent_id=None)),
        manifest(replace(CHAIN[1], base_id=identify(7))),
        manifest(replace(CHAIN[1], page_size=8192)),
        manifest(CHAIN[1], repository_id="r2"),
    ],
    ids=["parent", "no parent", "base", "page size", "repository"],
)
def test_a_manifest_that_does_not_continue_the_chain_is_named(odd: Manifest) -> None:
    with pytest.raises(BackupNotFound, match=f"backup {identify(1)}: does not continue"):
        check_chain([manifest(CHAIN[0]), odd, manifest(CHAIN[2])])


def test_a_chain_without_its_full_is_refused() -> None:
    with pytest.raises(BackupNotFound, match=str(identify(1))):
        check_chain([manifest(CHAIN[1]), manifest(CHAIN[2])])


def test_a_link_that_was_rolled_forward_begins_the_chain_under_its_old_name() -> None:
    rolled = replace(CHAIN[1], parent_id=None)
    check_chain([manifest(rolled), manifest(CHAIN[2])])
