"""The repository: documents under their names, whose signatures and places are checked, in a storage that may lie."""

from __future__ import annotations

import json
import secrets
import threading
import time
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
from continuum_tasks.repository.documents import Signature, encode_document
from continuum_tasks.repository.repository import IDENTITY_KEY, Identity, Repository, key_context
from continuum_tasks.storage.memory import MemoryStorage
from tests.support.manifests import BEGUN_AT, REPOSITORY_ID, manifest, unencrypted, verdict


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
    with pytest.raises(BackupNotFound, match=f"backup {chain()[gone].backup.id}: object {key_of(chain()[gone])} is") as info:
        repository.read_chain(chain()[-1].backup.id)
    assert "list --storage here`" in info.value.hint


def test_a_link_of_another_repository_or_page_size_does_not_continue_the_chain(repository: Repository) -> None:
    full, first, _ = chain()
    repository.put_manifest(full)
    for n, odd in enumerate(
        (
            replace(first, repository_id="another"),
            replace(first, backup=replace(first.backup, page_size=512, original_size_bytes=3 * 512)),
        ),
        5,
    ):
        other_id = BackupId(f"backup-incremental-2026110{n}-000000")
        repository.put_manifest(replace(odd, backup=replace(odd.backup, id=other_id), objects=()))
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


def test_a_manifest_whose_key_and_cipher_disagree_is_forged(repository: Repository, storage: MemoryStorage) -> None:
    one = replace(unencrypted(manifest()), wrapped_key=manifest().wrapped_key)
    storage.put(key_of(one), encode_document("manifest", one, sign=None))
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


def test_a_listing_believes_no_manifest_whose_signature_the_key_here_denies(
    repository: Repository, storage: MemoryStorage
) -> None:
    repository.put_manifest(manifest())
    old = json.loads(storage.get(key_of(manifest())))["signature"]
    forged = replace(manifest(), tool_version="forged")
    for signature in (None, Signature(**old)):
        storage.put(key_of(forged), encode_document("manifest", forged, sign=lambda _, found=signature: found))
        (found,) = repository.manifests()
        assert isinstance(found, ObjectDamaged) and key_of(forged) in found.message and "signature" in found.message
        with pytest.raises(ObjectDamaged):
            repository.read_manifest("main", forged.backup.id, check_signature=False)


def test_a_manifest_signed_under_a_key_that_is_not_here_is_listed_unchecked(
    repository: Repository, storage: MemoryStorage, tmp_path: Path
) -> None:
    repository.put_manifest(manifest())
    other = keyed(tmp_path / "other", storage, key_id="q")
    assert [one.backup.id for one in other.manifests() if isinstance(one, Manifest)] == [manifest().backup.id]


def test_what_the_storage_itself_finds_damaged_is_named_and_hides_no_other(tmp_path: Path) -> None:
    class Rotten(MemoryStorage):
        def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
            if key == key_of(manifest(n=1)):
                raise ObjectDamaged(f"object {key}: its checksum does not hold", hint="")
            return super().get(key, offset=offset, length=length)

    repository = keyed(tmp_path / "keys", Rotten())
    for n in range(3):
        repository.put_manifest(manifest(n=n))
    assert [type(one).__name__ for one in repository.manifests()] == ["Manifest", "ObjectDamaged", "Manifest"]


def test_a_manifest_that_would_not_read_back_is_never_committed(repository: Repository, storage: MemoryStorage) -> None:
    with pytest.raises(ObjectDamaged, match="is not an object of this backup"):
        repository.put_manifest(replace(manifest(n=1), objects=manifest().objects))
    assert repository.manifest_keys() == []


def test_a_source_that_anybody_may_write_is_kept_without_that_right(repository: Repository) -> None:
    one = replace(manifest(), source=replace(manifest().source, mode=0o6666))
    assert repository.put_manifest(one).source.mode == 0o664
    assert repository.read_manifest("main", one.backup.id).source.mode == 0o664


class Counting(MemoryStorage):
    """Counts how many reads are under way at once, each of which takes 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.n_now = self.n_most = self.n_reads = 0
        self.lock = threading.Lock()

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self.lock:
            self.n_now += 1
            self.n_reads += 1
            self.n_most = max(self.n_most, self.n_now)
        time.sleep(0.02)
        with self.lock:
            self.n_now -= 1
        return super().get(key, offset=offset, length=length)


def test_links_somebody_expects_are_read_at_once_and_only_once(tmp_path: Path) -> None:
    storage = Counting()
    repository = keyed(tmp_path / "keys", storage)
    links = [manifest()]
    for n in range(1, 40):
        one = manifest(strategy="incremental", n=n)
        links.append(replace(one, backup=replace(one.backup, parent_id=links[-1].backup.id)))
    for one in links:
        repository.put_manifest(one)
    ids = [one.backup.id for one in links]
    assert [one.backup.id for one in repository.read_chain(ids[-1], likely=ids)] == ids
    assert storage.n_reads == 40 and 8 <= storage.n_most <= 16


@pytest.mark.parametrize("likely", [[0], [1, 2, 7], [7, 8, 9]])
def test_links_expected_wrongly_change_nothing(repository: Repository, storage: MemoryStorage, likely: list[int]) -> None:
    for one in (*chain(), manifest(n=7), manifest(n=8)):
        repository.put_manifest(one)
    storage.put(key_of(manifest(n=8)), b"garbage")
    known = {0: chain()[0].backup.id, 1: chain()[1].backup.id, 2: chain()[2].backup.id}
    expected = [known.get(n, manifest(n=n).backup.id) for n in likely]
    read = repository.read_chain(chain()[-1].backup.id, likely=expected)
    assert [one.backup.id for one in read] == [one.backup.id for one in chain()]


def test_an_expected_link_that_is_damaged_is_still_named(repository: Repository, storage: MemoryStorage) -> None:
    for one in chain():
        repository.put_manifest(one)
    storage.put(key_of(chain()[1]), b"garbage")
    with pytest.raises(ObjectDamaged, match=key_of(chain()[1])):
        repository.read_chain(chain()[-1].backup.id, likely=[one.backup.id for one in chain()])


def test_an_id_that_two_databases_have_is_told_apart_by_the_database(repository: Repository) -> None:
    for database in ("main", "other"):
        repository.put_manifest(manifest(database=database))
    with pytest.raises(BackupNotFound, match="one of database main and one of other") as info:
        repository.read_chain(manifest().backup.id)
    assert "--database" in info.value.hint
    for database in ("main", "other"):
        (read,) = repository.read_chain(manifest().backup.id, database=database)
        assert read.backup.database == database


def test_the_fingerprint_of_a_key_is_told_only_where_it_is(repository: Repository, tmp_path: Path) -> None:
    assert repository.fingerprint_of("k") == open_keyring(tmp_path / "keys").fingerprint("k")
    assert repository.fingerprint_of("q") is None


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


def test_a_damaged_identity_that_no_manifest_knows_is_told_and_never_replaced(
    repository: Repository, storage: MemoryStorage
) -> None:
    storage.put(IDENTITY_KEY, b"{}")
    storage.put(key_of(manifest(n=1)), b"garbage")
    with pytest.raises(ObjectDamaged, match=r"object repository\.json") as info:
        repository.ensure_identity(Identity(repository_id="new", created_at=BEGUN_AT))
    assert storage.get(IDENTITY_KEY) == b"{}"
    assert "restore another backup" not in info.value.hint and IDENTITY_KEY in info.value.hint


def test_a_damaged_identity_is_written_again_as_a_signed_manifest_has_it(
    repository: Repository, storage: MemoryStorage, tmp_path: Path
) -> None:
    storage.put(key_of(manifest(n=0)), b"garbage")
    forged = replace(manifest(n=1), repository_id="forged")
    storage.put(key_of(forged), encode_document("manifest", forged, sign=None))
    keyed(tmp_path / "other", storage, key_id="q").put_manifest(_under(manifest(n=2), "q"))
    repository.put_manifest(manifest(n=3))
    storage.put(IDENTITY_KEY, b"{}")
    assert repository.ensure_identity(Identity(repository_id="new", created_at=BEGUN_AT)).repository_id == REPOSITORY_ID
    assert repository.identity().repository_id == REPOSITORY_ID


def _under(one: Manifest, key_id: str) -> Manifest:
    """Return a manifest of another repository, under another key."""
    assert one.wrapped_key is not None
    wrapped = replace(one.wrapped_key, key_id=key_id)
    return replace(one, repository_id="another", wrapped_key=wrapped, backup=replace(one.backup, key_id=key_id))


def test_an_identity_comes_back_from_a_manifest(repository: Repository, storage: MemoryStorage) -> None:
    storage.put(IDENTITY_KEY, b"{}")
    assert repository.restore_identity(manifest()) == repository.identity()
    assert repository.identity().repository_id == REPOSITORY_ID


def test_verdicts_read_back_and_the_same_verdict_is_one_object(repository: Repository) -> None:
    one = manifest()
    keys = {repository.put_attestation("main", verdict(one), key_id="k") for _ in range(3)}
    other = repository.put_attestation("main", verdict(one, level=Level.OBJECTS), key_id="k")
    assert len(keys) == 1
    found = dict(repository.attestations("main", one.backup.id))
    assert found.keys() == {*keys, other}
    assert verdict(one) in found.values()


def test_a_verdict_of_a_host_with_another_key_hinders_nobody_and_counts_only_there(
    repository: Repository, storage: MemoryStorage, tmp_path: Path
) -> None:
    stranger = keyed(tmp_path / "other", storage)
    for level in Level:
        stranger.put_attestation("main", verdict(manifest(), level=level), key_id="k")
    assert list(repository.attestations()) == []
    assert len(list(stranger.attestations())) == len(Level)


def test_where_there_is_a_key_an_unsigned_verdict_of_any_level_counts_for_nothing(
    repository: Repository, storage: MemoryStorage, tmp_path: Path
) -> None:
    keyless = keyed(tmp_path / "empty", storage, key_id="")
    for level in Level:
        keyless.put_attestation("main", verdict(manifest(), level=level, passed=False), key_id="k")
    assert list(repository.attestations()) == []


def test_hosts_without_a_key_go_on_telling_each_other_what_the_bytes_are(storage: MemoryStorage, tmp_path: Path) -> None:
    one, other = (keyed(tmp_path / name, storage, key_id="") for name in ("one", "other"))
    key = one.put_attestation("main", verdict(manifest(), level=Level.OBJECTS), key_id="k")
    assert dict(other.attestations()) == {key: verdict(manifest(), level=Level.OBJECTS)}


def test_the_verdicts_of_a_chain_are_those_of_its_links(repository: Repository) -> None:
    links = [repository.put_attestation("main", verdict(one), key_id="k") for one in chain()]
    repository.put_attestation("main", verdict(manifest(n=9)), key_id="k")
    repository.put_attestation("other", verdict(chain()[0]), key_id="k")
    assert {key for key, _ in repository.chain_attestations(chain())} == set(links)


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
