"""What a backup builds on and what a restore needs, against a reference model that walks one link at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history import chain
from continuum_tasks.history.chain import Requirements
from continuum_tasks.model import Backup, BackupStatus, Cipher, Strategy
from tests.unit.retention.plan.rows import START, ago, backup, histories, identify

pytestmark = pytest.mark.slow

REQUIREMENTS = Requirements(host="h1", page_size=4096, cipher=Cipher.AES_256_GCM, key_ids=("k1",))
LOOP = [backup(0, parent=1), backup(1, parent=2), backup(2, parent=0), backup(3, parent=1)]


def walk(wanted: Backup, backups: Sequence[Backup]) -> list[Backup] | None:
    """The model: from the wanted one to its full, or None for a missing link or a loop."""
    path = [wanted]
    while path[-1].parent_id is not None:
        found = [b for b in backups if b.id == path[-1].parent_id]
        if not found or found[0].id in [b.id for b in path]:
            return None
        path.append(found[0])
    return path


def is_good(one: Backup) -> bool:
    if one.status is not BackupStatus.COMPLETED:
        return False
    return one.failed_at is None or (one.verified_at is not None and one.verified_at > one.failed_at)


def model_usable(backups: Sequence[Backup]) -> list[Backup]:
    return [b for b in backups if (path := walk(b, backups)) is not None and all(map(is_good, path))]


@given(histories())
@example(LOOP)
@example([backup(0, parent=0)])
def test_usable_are_those_whose_every_link_is_there_and_good_in_the_order_given(backups: list[Backup]) -> None:
    assert chain.usable(backups) == model_usable(backups)


@given(histories())
@example(LOOP)
@example([backup(0, parent=0)])
def test_links_are_the_walk_to_the_full_with_the_full_first_or_an_error(backups: list[Backup]) -> None:
    for wanted in backups:
        path = walk(wanted, backups)
        if path is None:
            with pytest.raises(BackupNotFound, match=str(wanted.id)):
                chain.links(wanted, backups)
        else:
            assert list(chain.links(wanted, backups)) == path[::-1]


@given(histories())
def test_whatever_is_usable_has_links(backups: list[Backup]) -> None:
    for good in chain.usable(backups):
        assert chain.links(good, backups)[-1] == good


@given(histories(), st.sampled_from(Strategy))
def test_the_parent_is_the_newest_usable_one_of_the_right_kind_or_the_run_is_a_full(
    backups: list[Backup], strategy: Strategy
) -> None:
    choice = chain.choose_parent_of(strategy, backups, requirements=REQUIREMENTS)

    fits_kind = {
        Strategy.FULL: lambda _: False,
        Strategy.DIFFERENTIAL: lambda b: b.parent_id is None,  # a full, or one that was rolled forward
        Strategy.INCREMENTAL: lambda _: True,
    }
    newest = next((b for b in model_usable(backups) if fits_kind[strategy](b)), None)
    fits = (
        newest is not None and (newest.page_size, newest.cipher) == (4096, Cipher.AES_256_GCM) and newest.key_id in ("k1", "")
    )
    assert choice.parent == (newest if fits else None)
    assert choice.strategy is (strategy if fits else Strategy.FULL)
    assert choice.reason


def test_a_missing_link_is_named() -> None:
    with pytest.raises(BackupNotFound, match=f"{identify(5)}: its link {identify(4)} is gone"):
        chain.links(backup(5, parent=4), [backup(5, parent=4), backup(0)])


def test_a_loop_of_any_length_is_called_one() -> None:
    for length in (1, 2, 3, 7):
        loop = [backup(i, parent=(i + 1) % length) for i in range(length)]
        with pytest.raises(BackupNotFound, match="form a loop"):
            chain.links(loop[0], loop)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"page_size": 8192}, "page size changed from 8192 to 4096 bytes"),
        ({"cipher": Cipher.NONE, "key_id": ""}, "encryption changed from none to aes-256-gcm"),
        ({"key_id": "k2"}, "its key k2 is not in the keyring"),
    ],
)
def test_a_full_that_was_not_asked_for_says_why(changes: dict[str, object], why: str) -> None:
    choice = chain.choose_parent_of(Strategy.INCREMENTAL, [backup(0, **changes)], requirements=REQUIREMENTS)

    assert (choice.strategy, choice.parent, choice.reason) == (Strategy.FULL, None, f"{identify(0)}: {why}")


def test_an_unencrypted_parent_needs_no_key() -> None:
    requirements = Requirements(host="h1", page_size=4096, cipher=Cipher.NONE, key_ids=())

    parent = backup(0, cipher=Cipher.NONE, key_id="")

    assert chain.choose_parent_of(Strategy.INCREMENTAL, [parent], requirements=requirements).parent == parent


def test_reasons_say_what_was_asked_for_and_what_it_builds_on() -> None:
    full = backup(0)

    assert chain.choose_parent_of(Strategy.FULL, [full], requirements=REQUIREMENTS).reason == "requested"
    assert chain.choose_parent_of(Strategy.INCREMENTAL, [full], requirements=REQUIREMENTS).reason == f"builds on {full.id}"
    nothing = chain.choose_parent_of(Strategy.DIFFERENTIAL, [], requirements=REQUIREMENTS)
    assert nothing.reason == "nothing usable for a differential to build on"


def test_a_failed_verification_counts_until_a_newer_one_passes() -> None:
    failed = backup(0, failed_at=ago(hours=2))

    assert chain.usable([failed]) == []
    assert chain.usable([backup(0, failed_at=ago(hours=2), verified_at=ago(hours=2))]) == []
    assert chain.usable([backup(0, failed_at=ago(hours=2), verified_at=ago(hours=3))]) == []
    assert len(chain.usable([backup(0, failed_at=ago(hours=2), verified_at=ago(hours=1))])) == 1


def test_a_chain_is_never_made_longer_than_a_restore_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real limit takes 278 days of increments every 4 minutes without a full: then a full begins a new chain."""
    monkeypatch.setattr(chain, "MAX_LINKS", 50)
    rows = [*(backup(i, parent=i - 1) for i in range(49, 0, -1)), backup(0)]

    choice = chain.choose_parent_of(Strategy.INCREMENTAL, rows, requirements=REQUIREMENTS)

    assert choice.parent is None
    assert choice.reason == f"{rows[0].id}: its chain has 50 links, the most a restore reads"
    assert chain.choose_parent_of(Strategy.INCREMENTAL, rows[1:], requirements=REQUIREMENTS).parent == rows[1]
    assert len(chain.links(rows[0], rows)) == 50


def test_a_chain_that_is_longer_all_the_same_is_refused_as_the_loop_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MAX_LINKS", 50)
    rows = [backup(0), *(backup(i, parent=i - 1) for i in range(1, 52))]

    with pytest.raises(BackupNotFound, match="form a loop"):
        chain.links(rows[-1], rows)


def test_a_thousand_links_are_judged_in_any_order() -> None:
    rows = [backup(0, created_at=START), *(backup(i, parent=i - 1) for i in range(1, 1_000))]
    random.Random(1).shuffle(rows)

    assert len(chain.usable(rows)) == 1_000


def test_a_backup_of_another_host_is_no_parent_however_new() -> None:
    theirs = replace(backup(1), host="h2")
    choice = chain.choose_parent_of(Strategy.INCREMENTAL, [theirs], requirements=REQUIREMENTS)
    assert (choice.strategy, choice.parent) == (Strategy.FULL, None)
    assert chain.made_on("h2", [theirs, backup(0)]) == [theirs]


def test_an_increment_made_while_nothing_came_is_newer_than_what_it_builds_on() -> None:
    """Its time is that of the last captured commit, which the full had read before."""
    full, older = backup(1), backup(0)
    idle = replace(backup(2, parent=1), created_at=full.created_at - timedelta(minutes=5))
    assert idle.finished_at > full.finished_at
    assert [one.id for one in chain.newest_first([full, idle, older])] == [idle.id, full.id, older.id]


@given(histories())
@example(LOOP)
@example([backup(0, parent=0)])
def test_newest_first_keeps_all_and_puts_no_backup_below_one_it_builds_on(backups: list[Backup]) -> None:
    found = chain.newest_first(backups)
    assert sorted(one.id for one in found) == sorted(one.id for one in backups)
    place = {one.id: number for number, one in enumerate(found)}
    for one in backups:
        path = walk(one, backups) or []
        assert all(place[one.id] <= place[link.id] or one.finished_at <= link.finished_at for link in path)
