"""The repository: documents under their names, whose signatures and places are checked, in a storage that may lie."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from continuum_tasks.errors import (
    BackupNotFound,
    IntegrityError,
    KeyMissing,
    KeyWrong,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
)
from continuum_tasks.keyring import generate_key, open_keyring
from continuum_tasks.model import BackupId, Level, Manifest, WrappedKey
from continuum_tasks.repository import IDENTITY_KEY, Identity, Repository, key_context, missing_objects
from continuum_tasks.storage.memory import MemoryStorage
from tests.unit.manifests import BEGUN_AT, REPOSITORY_ID, manifest, unencrypted, verdict


def keyed(directory: Path, storage: MemoryStorage, *, key_id: str = "k", accept_unsigned: bool = False) -> Repository:
    """Open a repository with a keyring of one new key; no key id = an empty keyring."""
    if key_id:
        generate_key(directory, key_id, random_bytes=secrets.token_bytes, now=BEGUN_AT)
    return Repository(storage, "here", keyring=open_keyring(directory), accept_unsigned=accept_unsigned)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def repository(tmp_path: Path, storage: MemoryStorage) -> Repository:
    return keyed(tmp_path / "keys", storage)


def key_of(one: Manifest) -> str:
    return f"manifests/{one.backup.database}/{one.backup.id}.json"


def chain() -> tuple[Manifest, ...]:
    full, first = manifest(), manifest(strategy="incremental", n=1)
    second = manifest(strategy="incremental", n=2)
    return full, first, replace(second, backup=replace(second.backup, parent_id=first.backup.id))


def test_a_manifest_reads_back_under_this_storages_name(repository: Repository) -> None:
    put = repository.put_manifest(manifest(storage=""))
    read = repository.read_manifest("main", manifest().backup.id)
    assert read == put and read.backup.storage == "here"


def test_a_manifest_is_never_written_over_another(repository: Repository) -> None:
    repository.put_manifest(manifest())
    with pytest.raises(ObjectExists, match="backup-full-20261101-120000"):
        repository.put_manifest(manifest())


def test_a_chain_is_read_base_first(repository: Repository) -> None:
    for one in chain():
        repository.put_manifest(one)
    read = repository.read_chain(chain()[-1].backup.id)
    assert [one.backup.id for one in read] == [one.backup.id for one in chain()]


@pytest.mark.parametrize("gone", [0, 1])
def test_a_chain_with_a_link_gone_names_it(repository: Repository, storage: MemoryStorage, gone: int) -> None:
    for one in chain():
        repository.put_manifest(one)
    storage.delete(key_of(chain()[gone]))
    with pytest.raises(BackupNotFound, match=f"backup {chain()[gone].backup.id}"):
        repository.read_chain(chain()[-1].backup.id)


def test_a_link_of_another_repository_or_page_size_does_not_continue_the_chain(repository: Repository) -> None:
    full, first, _ = chain()
    repository.put_manifest(full)
    for n, odd in enumerate(
        (replace(first, repository_id="another"), replace(first, backup=replace(first.backup, page_size=512))), 5
    ):
        other_id = BackupId(f"backup-incremental-2026110{n}-000000")
        repository.put_manifest(replace(odd, backup=replace(odd.backup, id=other_id)))
        with pytest.raises(BackupNotFound, match=f"{other_id}: does not continue the chain"):
            repository.read_chain(other_id)


def test_links_that_form_a_loop_are_refused(repository: Repository) -> None:
    _, first, second = chain()
    repository.put_manifest(replace(first, backup=replace(first.backup, parent_id=second.backup.id)))
    repository.put_manifest(second)
    with pytest.raises(BackupNotFound, match=f"backup {second.backup.id}: its links form a loop"):
        repository.read_chain(second.backup.id)


def test_a_backup_nobody_made_is_not_found(repository: Repository) -> None:
    with pytest.raises(BackupNotFound, match="not in storage here"):
        repository.read_chain(manifest().backup.id)


def test_a_manifest_under_another_name_is_damaged(repository: Repository, storage: MemoryStorage) -> None:
    repository.put_manifest(manifest())
    elsewhere = key_of(manifest(n=7))
    storage.put(elsewhere, storage.get(key_of(manifest())))
    with pytest.raises(ObjectDamaged, match=f"object {elsewhere}: holds the manifest of {manifest().backup.id}"):
        repository.read_manifest("main", manifest(n=7).backup.id)


def test_a_manifest_without_a_signature_is_refused_where_there_is_encryption(tmp_path: Path, storage: MemoryStorage) -> None:
    open_house = keyed(tmp_path / "none", storage, key_id="", accept_unsigned=True)
    one = unencrypted(manifest())
    open_house.put_manifest(one)
    assert open_house.read_manifest("main", one.backup.id).backup.id == one.backup.id
    strict = keyed(tmp_path / "keys", storage)
    with pytest.raises(ObjectDamaged, match=f"object {key_of(one)}: has no signature, and encryption is on"):
        strict.read_manifest("main", one.backup.id)


def test_a_manifest_whose_key_and_cipher_disagree_is_forged(repository: Repository) -> None:
    one = replace(unencrypted(manifest()), wrapped_key=manifest().wrapped_key)
    repository.put_manifest(one)
    with pytest.raises(ObjectDamaged, match=f"object {key_of(one)}: says none but its key says otherwise"):
        repository.read_manifest("main", one.backup.id, check_signature=False)


def test_a_manifest_another_key_signed_says_which_key_it_was(repository: Repository, tmp_path: Path) -> None:
    repository.put_manifest(manifest())
    stranger = keyed(tmp_path / "other", repository.storage)  # type: ignore[arg-type]
    with pytest.raises(KeyWrong, match=r"key k: .* is another key"):
        stranger.read_manifest("main", manifest().backup.id)


def test_without_the_key_manifests_are_listed_but_not_trusted(repository: Repository, tmp_path: Path) -> None:
    repository.put_manifest(manifest())
    keyless = keyed(tmp_path / "empty", repository.storage, key_id="")  # type: ignore[arg-type]
    assert [one.backup.id for one in keyless.manifests() if isinstance(one, Manifest)] == [manifest().backup.id]
    with pytest.raises(KeyMissing, match="key k is not in the keyring"):
        keyless.read_manifest("main", manifest().backup.id)


def test_a_damaged_manifest_is_named_and_hides_no_other(repository: Repository, storage: MemoryStorage) -> None:
    for n in range(3):
        repository.put_manifest(manifest(n=n))
    storage.put(key_of(manifest(n=1)), b"garbage")
    found = list(repository.manifests())
    assert [type(one).__name__ for one in found] == ["Manifest", "ObjectDamaged", "Manifest"]
    assert isinstance(found[1], IntegrityError) and key_of(manifest(n=1)) in found[1].message


def test_the_first_identity_wins(repository: Repository) -> None:
    first, second = (Identity(repository_id=name, created_at=BEGUN_AT) for name in ("one", "two"))
    assert repository.ensure_identity(first) == first
    assert repository.ensure_identity(second) == first == repository.identity()


def test_a_lost_identity_is_written_again_as_the_manifests_have_it(repository: Repository, storage: MemoryStorage) -> None:
    with pytest.raises(ObjectMissing):
        repository.identity()
    repository.put_manifest(manifest())
    proposed = Identity(repository_id="new", created_at=BEGUN_AT)
    assert repository.ensure_identity(proposed).repository_id == REPOSITORY_ID
    assert repository.identity().repository_id == REPOSITORY_ID


def test_a_damaged_identity_is_told_and_never_replaced(repository: Repository, storage: MemoryStorage) -> None:
    storage.put(IDENTITY_KEY, b"{}")
    with pytest.raises(ObjectDamaged, match=r"object repository\.json"):
        repository.ensure_identity(Identity(repository_id="new", created_at=BEGUN_AT))
    assert storage.get(IDENTITY_KEY) == b"{}"


def test_verdicts_read_back_and_the_same_verdict_is_one_object(repository: Repository) -> None:
    one = manifest()
    keys = {repository.put_attestation("main", verdict(one), key_id="k") for _ in range(3)}
    other = repository.put_attestation("main", verdict(one, level=Level.OBJECTS), key_id="k")
    assert len(keys) == 1
    found = dict(repository.attestations("main", one.backup.id))
    assert found.keys() == {*keys, other}
    assert verdict(one) in found.values()


def test_a_verdict_of_a_host_with_another_key_hinders_nobody(repository: Repository, tmp_path: Path) -> None:
    """One may check bytes without the key; what signed the verdict cannot be judged here, and a listing must go on."""
    stranger = keyed(tmp_path / "other", repository.storage)  # type: ignore[arg-type]
    stranger.put_attestation("main", verdict(manifest(), level=Level.OBJECTS), key_id="k")
    stranger.put_attestation("main", verdict(manifest(), level=Level.RESTORE), key_id="k")
    ((_, found),) = repository.attestations()
    assert found == verdict(manifest(), level=Level.OBJECTS)


def test_an_unsigned_verdict_counts_only_for_what_needs_no_key(repository: Repository, tmp_path: Path) -> None:
    keyless = keyed(tmp_path / "empty", repository.storage, key_id="")  # type: ignore[arg-type]
    read = keyless.put_attestation("main", verdict(manifest(), level=Level.OBJECTS), key_id="k")
    forged = keyless.put_attestation("main", verdict(manifest(), level=Level.RESTORE), key_id="k")
    found = dict(repository.attestations())
    assert found[read] == verdict(manifest(), level=Level.OBJECTS)
    assert isinstance(found[forged], ObjectDamaged) and forged in found[forged].message


def test_a_damaged_verdict_is_named(repository: Repository, storage: MemoryStorage) -> None:
    key = repository.put_attestation("main", verdict(manifest()), key_id="k")
    storage.put(key, storage.get(key).replace(b'"passed":true', b'"passed":null'))
    ((_, found),) = repository.attestations()
    assert isinstance(found, ObjectDamaged) and key in found.message


def test_data_keys_open_only_for_the_chain_they_were_made_for(repository: Repository) -> None:
    context = key_context(REPOSITORY_ID, "backup-full-20261101-120000")
    wrapped = repository.wrap("k", b"d" * 32, nonce=b"n" * 12, context=context)
    assert isinstance(wrapped, WrappedKey)
    assert repository.unwrap(wrapped, context=context) == b"d" * 32
    assert repository.unwrap(None, context=context) is None
    with pytest.raises(KeyWrong):
        repository.unwrap(wrapped, context=key_context(REPOSITORY_ID, "backup-full-20261101-120001"))


def test_objects_that_are_gone_or_another_size_are_missing(repository: Repository, storage: MemoryStorage) -> None:
    one = manifest()
    (stored,) = one.objects
    assert missing_objects(one, repository.stored(one.backup)) == [stored]
    storage.put(stored.key, bytes(stored.size_bytes - 1))
    assert missing_objects(one, repository.stored(one.backup)) == [stored]
    storage.put(stored.key, bytes(stored.size_bytes))
    assert missing_objects(one, repository.stored(one.backup)) == []
