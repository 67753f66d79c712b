"""The catalog: an index that folds verdicts in, may be rebuilt at any time, and is shared by processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Thread

import pytest

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.host.catalog import Catalog, Contents, fold, open_catalog
from continuum_tasks.model import Level
from tests.support.manifests import BEGUN_AT, manifest, verdict


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with closing(open_catalog(tmp_path / "metadata.db")) as opened:
        yield opened


def ids(catalog: Catalog) -> list[str]:
    return [str(backup.id) for backup in catalog.backups()]


def test_backups_come_newest_first_and_as_they_were(catalog: Catalog) -> None:
    made = [manifest(), manifest(strategy="incremental", n=2), manifest(strategy="incremental", n=1)]
    for one in made:
        catalog.add(one)
    assert catalog.backups() == [made[1].backup, made[2].backup, made[0].backup]


def test_adding_a_backup_again_changes_nothing(catalog: Catalog) -> None:
    for _ in range(3):
        catalog.add(manifest())
    assert catalog.backups() == [manifest().backup]


def test_storages_and_databases_are_told_apart(catalog: Catalog) -> None:
    catalog.add(manifest())
    catalog.add(manifest(storage="s3"))
    catalog.add(manifest(n=1, database="other"))
    assert len(catalog.backups()) == 3
    assert {backup.storage for backup in catalog.backups(storage="s3")} == {"s3"}
    assert {backup.database for backup in catalog.backups(database="other")} == {"other"}
    assert catalog.find(manifest().backup.id, storage="s3").storage == "s3"


def test_a_backup_that_is_not_there_is_not_found_and_the_remedy_named(catalog: Catalog) -> None:
    with pytest.raises(BackupNotFound, match="backup-full-20261101-120000: not found in storage s3") as info:
        catalog.find(manifest().backup.id, storage="s3")
    assert "reindex" in info.value.hint


def test_forgetting_takes_objects_and_verdicts_too_and_may_be_repeated(catalog: Catalog) -> None:
    one = manifest()
    catalog.add(one)
    catalog.attest("local", verdict(one))
    for _ in range(2):
        catalog.forget("local", one.backup.id)
    assert catalog.backups() == [] and catalog.objects(one.backup) == {}
    assert catalog.attestations("local", one.backup.id) == []


def test_objects_come_with_their_sizes(catalog: Catalog) -> None:
    one = manifest()
    assert catalog.objects(one.backup) == {}
    catalog.add(one)
    assert catalog.objects(one.backup) == {one.objects[0].key: 1000}


@pytest.mark.parametrize(
    ("verdicts", "verified"),
    [
        ([], False),
        ([(True, Level.OBJECTS)], False),
        ([(True, Level.PAGES)], False),
        ([(True, Level.RESTORE)], True),
        ([(True, Level.RESTORE), (False, Level.OBJECTS)], False),
        ([(False, Level.RESTORE), (True, Level.RESTORE)], True),
        ([(False, Level.RESTORE), (True, Level.PAGES)], False),
        ([(True, Level.RESTORE), (True, Level.OBJECTS)], True),
    ],
)
def test_verified_means_that_a_restore_passed_and_nothing_failed_since(
    catalog: Catalog, verdicts: list[tuple[bool, Level]], verified: bool
) -> None:
    one = manifest()
    catalog.add(one)
    for n, (passed, level) in enumerate(verdicts):
        catalog.attest("local", verdict(one, passed=passed, level=level, minutes=60 + n))
    (found,) = catalog.backups()
    assert found.verified is verified
    assert len(catalog.attestations("local", one.backup.id)) == len(verdicts)


def test_a_verdict_about_the_same_id_in_another_storage_does_not_count(catalog: Catalog) -> None:
    catalog.add(manifest())
    catalog.attest("s3", verdict(manifest()))
    assert not catalog.backups()[0].verified


def test_what_a_manifest_claims_about_its_own_verification_is_not_believed(catalog: Catalog) -> None:
    one = manifest()
    catalog.add(replace(one, backup=replace(one.backup, verified_at=BEGUN_AT)))
    assert not catalog.backups()[0].verified
    assert not fold(replace(one.backup, verified_at=BEGUN_AT), []).verified


def test_a_reindex_makes_one_storage_exactly_what_it_holds(catalog: Catalog) -> None:
    gone, kept = manifest(n=1), manifest(n=2)
    catalog.add(gone)
    catalog.attest("local", verdict(gone))
    catalog.add(manifest(n=3, storage="s3"))
    assert not catalog.is_indexed("local")
    contents = Contents(manifests=[kept], attestations=[verdict(kept)])
    catalog.replace_storage("local", contents, known=[gone.backup.id], now=BEGUN_AT)
    assert catalog.is_indexed("local") and not catalog.is_indexed("s3")
    assert {(found.storage, found.id) for found in catalog.backups()} == {
        ("local", kept.backup.id),
        ("s3", manifest(n=3).backup.id),
    }
    assert catalog.find(kept.backup.id).verified
    assert catalog.attestations("local", gone.backup.id) == []


def test_a_lost_or_damaged_file_becomes_an_empty_catalog_and_the_damaged_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    path.write_bytes(b"no database at all" * 1000)
    with closing(open_catalog(path)) as opened:
        assert opened.backups() == [] and not opened.is_indexed("local")
        opened.add(manifest())
    (aside,) = tmp_path.glob("metadata.db.damaged-*")
    assert aside.read_bytes().startswith(b"no database")


def test_several_threads_and_openings_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    with closing(open_catalog(path)) as one, closing(open_catalog(path)) as two:

        def add(catalog: Catalog, numbers: range) -> None:
            for n in numbers:
                catalog.add(manifest(n=n))

        threads = [Thread(target=add, args=(c, range(k, 40, 4))) for k, c in enumerate((one, two, one, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(one.backups()) == len(two.backups()) == 40
        assert ids(one) == sorted(ids(one), reverse=True)


def test_the_file_is_private(tmp_path: Path) -> None:
    with closing(open_catalog(tmp_path / "state" / "metadata.db")) as opened:
        opened.add(manifest())
        assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir()} == {0}


def test_times_come_back_aware(catalog: Catalog) -> None:
    catalog.add(manifest())
    at: datetime = catalog.backups()[0].created_at
    assert at == BEGUN_AT and at.tzinfo is not None


def test_a_backup_committed_while_a_storage_was_read_stays(catalog: Catalog) -> None:
    known, meanwhile = manifest(n=1), manifest(n=2)
    catalog.add(known)
    catalog.add(meanwhile)
    catalog.replace_storage("local", Contents(manifests=[]), known=[known.backup.id], now=BEGUN_AT)
    assert [found.id for found in catalog.backups()] == [meanwhile.backup.id]
