"""A changed byte anywhere in the storage is reported with the object's name, and no wrong data is ever restored."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from continuum_tasks.errors import (
    BackupNotFound,
    ContinuumError,
    IntegrityError,
    KeyMissing,
    KeyringError,
    KeyWrong,
    ObjectDamaged,
    ObjectMissing,
)
from continuum_tasks.keyring import generate_key
from continuum_tasks.model import Backup, Level
from continuum_tasks.runtime import finish
from continuum_tasks.storage.protocol import Storage
from continuum_tasks.verify import verify
from tests.integration import beside as b
from tests.integration.beside import Witness, beside, witness
from tests.support.sampling import WHOLE, matrix, random_for
from tests.support.sandbox import (
    KEY_ID,
    Options,
    Sandbox,
    another_host,
    back_up,
    back_up_finished,
    listed,
    make,
    objects,
    restore_to,
    verified,
)

N_POSITIONS = 40 if WHOLE else 4  # in each object, beside its first and last bytes
N_ENDS = 8 if WHOLE else 2
KINDS = ("aes-256-gcm", "none")
# 150 KB that compress well: three chunks of 64 KiB in the full, each small enough to damage in many places.
ROWS = """INSERT INTO t(a) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
          SELECT replace(hex(zeroblob(225)), '00', 'ab') || i FROM n"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """A full, an incremental and a verdict, small enough to damage everywhere; `bystander` has no key."""

    sandbox: Sandbox
    bystander: Sandbox
    full: Backup
    last: Backup
    states: dict[str, Witness]
    pristine: dict[str, bytes]
    out: Path

    def write(self, key: str, data: bytes | None) -> None:
        """Put other bytes in an object's place; None takes it away."""
        path = self.sandbox.store / key
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)

    def mend(self) -> None:
        """Make every object what it was, and forget new ones."""
        for key, path in objects(self.sandbox).items():
            if key not in self.pristine:
                path.unlink()
        for key, data in self.pristine.items():
            path = self.sandbox.store / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.pristine if key.startswith(prefix)]


def build(directory: Path, encryption: str) -> Vault:
    sandbox = make(directory / "c", Options(encryption=encryption))
    beside(b.script, sandbox.database, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)", ROWS, page_size=1024)
    states, made = {}, []
    for strategy in ("full", "incremental"):
        state = witness(sandbox.database)
        made.append(back_up(sandbox, strategy))
        states[str(made[-1].id)] = state
        beside(b.script, sandbox.database, "UPDATE t SET a = 'other' || id WHERE id % 90 = 0")
    assert [backup.strategy for backup in made] == ["full", "incremental"]
    verified(sandbox, made[-1].id)
    bystander = another_host(sandbox, directory / "bystander", Options(host="h3", encryption=encryption), keys=False)
    (directory / "out").mkdir()
    return Vault(
        sandbox=sandbox,
        bystander=bystander,
        full=made[0],
        last=made[1],
        states=states,
        pristine={key: path.read_bytes() for key, path in objects(sandbox).items()},
        out=directory / "out",
    )


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return build(tmp_path_factory.mktemp("vault"), str(request.param))


@pytest.fixture
def vault(built: Vault) -> Iterator[Vault]:
    yield built
    built.mend()
    listed(built.sandbox)  # its catalog forgets verdicts about damage that is mended


def restore(vault: Vault, backup: Backup) -> ContinuumError | None:
    """Restore over an old file. What comes out is the exact state, or an error and the old file; the error is returned."""
    target = vault.out / "memory.db"
    target.write_bytes(b"")
    beside(b.script, target, "CREATE TABLE precious(x)")
    before = target.read_bytes()
    try:
        restore_to(vault.sandbox, backup.id, target, overwrite=True)
    except ContinuumError as err:
        assert target.read_bytes() == before, "a refused restore changed its target"
        assert [path.name for path in vault.out.iterdir()] == ["memory.db"]
        return err
    assert witness(target) == vault.states[backup.id], "WRONG DATA was restored"
    clear(vault.out)
    return None


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def complaint(vault: Vault, level: Level, *, host: Sandbox | None = None) -> str:
    """Verify the last backup and return what is wrong with it; the test fails when nothing is."""
    with pytest.raises((IntegrityError, ObjectMissing, BackupNotFound)) as info:
        verified(host or vault.sandbox, vault.last.id, level)
    return info.value.message


def check_damage(vault: Vault, key: str, *, deep: bool) -> None:
    """Everybody who needs the object says its name, with or without the key; nobody restores anything else."""
    bad = (vault.sandbox.store / key).read_bytes()
    assert key in complaint(vault, Level.OBJECTS, host=vault.bystander)
    if deep:
        assert key in complaint(vault, Level.PAGES)
        vault.write(key, bad)  # what is damaged beside a backup was mended
        assert key in complaint(vault, Level.RESTORE)
        vault.write(key, bad)
    needed = key.startswith(("layers/", "manifests/"))
    error = restore(vault, vault.last) if needed or deep else None
    assert (error is not None) == needed
    assert error is None or (isinstance(error, IntegrityError | ObjectMissing | BackupNotFound) and key in error.message)


def positions(size: int, rng: Random) -> list[int]:
    ends = [*range(N_ENDS), *range(size - N_ENDS, size)]
    return sorted({*ends, *rng.sample(range(size), min(size, N_POSITIONS))})


@pytest.mark.sampled
@pytest.mark.parametrize("prefix", ["repository.json", "manifests/", "layers/", "attestations/"])
def test_a_bit_flipped_anywhere_is_reported_with_the_objects_name_and_never_restored(vault: Vault, prefix: str) -> None:
    rng = random_for(prefix)
    keys = vault.keys(prefix)
    assert keys
    for key in keys:
        good = vault.pristine[key]
        for n, at in enumerate(positions(len(good), rng)):
            bad = bytearray(good)
            bad[at] ^= 1 << rng.randrange(8)
            vault.write(key, bytes(bad))
            check_damage(vault, key, deep=n % 8 == 0)
            vault.mend()


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda good: None,
    "emptied": lambda good: b"",
    "cut by a byte": lambda good: good[:-1],
    "cut in half": lambda good: good[: len(good) // 2],
    "extended by a byte": lambda good: good + b"\0",
    "extended by itself": lambda good: good + good,
    "zeroed": lambda good: bytes(len(good)),
    "other text": lambda good: b"[1, 2]",
    "deep text": lambda good: b"[" * 100_000,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("prefix", ["manifests/", "layers/"])
def test_an_object_that_is_missing_or_another_length_is_reported_and_never_restored(
    vault: Vault, prefix: str, how: str
) -> None:
    for key in vault.keys(prefix):
        vault.write(key, DAMAGE[how](vault.pristine[key]))
        # What the wanted backup's own database was, nobody can say without its manifest.
        name = f"/{Path(key).name}" if how == "missing" and Path(key).stem == vault.last.id else key
        assert name in complaint(vault, Level.OBJECTS, host=vault.bystander)
        assert name in complaint(vault, Level.RESTORE)
        error = restore(vault, vault.last)
        assert error is not None and name in error.message
        vault.mend()


@pytest.mark.parametrize("how", [how for how in DAMAGE if how != "missing"])
def test_a_damaged_verdict_or_identity_is_reported_and_hinders_no_restore(vault: Vault, how: str) -> None:
    for key in (*vault.keys("attestations/"), "repository.json"):
        vault.write(key, DAMAGE[how](vault.pristine[key]))
        assert key in complaint(vault, Level.OBJECTS, host=vault.bystander)
        assert key in complaint(vault, Level.RESTORE)
        assert restore(vault, vault.last) is None
        vault.mend()


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_document_beside_a_perfect_backup_never_fails_it_and_is_mended(vault: Vault, how: str) -> None:
    verdicts = [] if how == "missing" else vault.keys("attestations/")
    damaged = [*verdicts, "repository.json"]
    for key in damaged:
        vault.write(key, DAMAGE[how](vault.pristine[key]))
    with pytest.raises(ObjectDamaged, match="passed at level restore, but beside it") as info:
        verified(vault.sandbox, vault.last.id)
    assert all(key in info.value.message for key in damaged)
    assert all(f"{key} was removed" in info.value.hint for key in verdicts)
    assert "repository.json was written again" in info.value.hint
    assert verified(vault.sandbox, vault.last.id).attestation.passed
    (found,) = [found for found in listed(vault.sandbox) if found.id == vault.last.id]
    assert found.verified and found.failed_at is None
    assert back_up_finished(vault.sandbox, "incremental").backup.parent_id == vault.last.id


def test_a_host_without_the_key_finds_damaged_documents_and_leaves_them(vault: Vault) -> None:
    for key in (*vault.keys("attestations/"), "repository.json"):
        vault.write(key, b"{}")
        with pytest.raises(ObjectDamaged, match="passed at level objects") as info:
            verified(vault.bystander, vault.last.id, Level.OBJECTS)
        assert f"{key} was left" in info.value.hint
        assert (vault.sandbox.store / key).read_bytes() == b"{}"
        vault.mend()


def check_swapped(vault: Vault, changes: dict[str, bytes]) -> None:
    """Put these objects in; verify names one of them at both levels, and restore refuses naming one."""
    for key, data in changes.items():
        vault.write(key, data)
    for message in (
        complaint(vault, Level.OBJECTS, host=vault.bystander),
        complaint(vault, Level.PAGES),
        complaint(vault, Level.RESTORE),
        getattr(restore(vault, vault.last), "message", ""),
    ):
        assert any(key in message for key in changes), message


def test_two_chunks_of_a_backup_exchanged_are_noticed(vault: Vault) -> None:
    first, second, *_ = vault.keys(f"layers/main/{vault.full.id}/{vault.full.id}/")
    check_swapped(vault, {first: vault.pristine[second], second: vault.pristine[first]})


def test_a_chunk_of_another_backup_of_the_chain_is_noticed(vault: Vault) -> None:
    (own,) = vault.keys(f"layers/main/{vault.full.id}/{vault.last.id}/")
    for foreign in vault.keys(f"layers/main/{vault.full.id}/{vault.full.id}/"):
        check_swapped(vault, {own: vault.pristine[foreign]})
        vault.mend()


def test_a_chunk_of_another_chain_is_noticed(vault: Vault) -> None:
    other = back_up(vault.sandbox, "full")
    ours = vault.keys(f"layers/main/{vault.full.id}/{vault.full.id}/")
    theirs = list(objects(vault.sandbox, f"layers/main/{other.id}/").values())
    for own, foreign in zip(ours, [path.read_bytes() for path in theirs], strict=False):
        check_swapped(vault, {own: foreign})
        vault.mend()


def test_a_chunk_of_another_repository_with_the_same_key_is_noticed(vault: Vault, tmp_path: Path) -> None:
    stranger = twin(vault, tmp_path / "twin")
    backup = back_up(stranger, "full")
    theirs = [path.read_bytes() for path in objects(stranger, f"layers/main/{backup.id}/").values()]
    for own, foreign in zip(vault.keys(f"layers/main/{vault.full.id}/{vault.full.id}/"), theirs, strict=False):
        check_swapped(vault, {own: foreign})
        vault.mend()


def twin(vault: Vault, directory: Path) -> Sandbox:
    """Make another repository of the same database, under the same key."""
    options = Options(encryption=vault.sandbox.config.backup.encryption)
    stranger = make(directory, options, database=vault.sandbox.database)
    if vault.sandbox.config.keys_dir.is_dir():
        shutil.copytree(vault.sandbox.config.keys_dir, stranger.config.keys_dir, dirs_exist_ok=True)
    return stranger


def test_a_manifest_in_the_place_of_another_is_noticed(vault: Vault) -> None:
    first, second = vault.keys("manifests/")
    for own, foreign in ((first, second), (second, first)):
        check_swapped(vault, {own: vault.pristine[foreign]})
        vault.mend()


def test_a_chunk_in_the_place_of_a_manifest_and_the_reverse_are_noticed(vault: Vault) -> None:
    manifest, chunk = vault.keys("manifests/")[0], vault.keys("layers/")[0]
    check_swapped(vault, {manifest: vault.pristine[chunk]})
    vault.mend()
    check_swapped(vault, {chunk: vault.pristine[manifest]})


def test_a_backup_of_another_repository_replayed_whole_is_reported_and_is_still_what_it_says(
    vault: Vault, tmp_path: Path
) -> None:
    """Its manifest is soundly signed by the same key: verify tells where it came from, a restore gives just that backup."""
    stranger = twin(vault, tmp_path / "twin")
    beside(b.script, vault.sandbox.database, "UPDATE t SET a = 'of another repository' WHERE id % 90 = 1")
    state = witness(vault.sandbox.database)
    backup = back_up(stranger, "full")
    for key, path in objects(stranger).items():
        if key.startswith(("layers/", "manifests/")):
            copy = vault.sandbox.store / key
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for level in Level:
        with pytest.raises(IntegrityError, match=f"{backup.id}.*another repository"):
            verified(vault.sandbox, backup.id, level)
    restore_to(vault.sandbox, backup.id, tmp_path / "out.db")
    assert witness(tmp_path / "out.db") == state


# ---- forgery: bytes that hold their own checksums ----


def forged(data: bytes, change: Callable[[dict[str, Any]], object], *, signature: object = "keep") -> bytes:
    """Change a document's meaning and make its own SHA-256 right again, as anybody can."""
    envelope = json.loads(data)
    change(envelope["body"]["value"])
    signed = envelope["signature"] if signature == "keep" else signature
    rest = json.dumps({"body": envelope["body"], "signature": signed}, sort_keys=True, separators=(",", ":"))
    forgery = {"body": envelope["body"], "sha256": hashlib.sha256(rest.encode()).hexdigest(), "signature": signed}
    return json.dumps(forgery, sort_keys=True, separators=(",", ":")).encode()


def unencrypted(value: dict[str, Any]) -> None:
    value["wrapped_key"] = None
    value["backup"]["cipher"] = "none"
    value["backup"]["key_id"] = ""


SIGNATURES = ("none", "the old one", "of a key that is not there", "garbage")
FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": lambda value: None,
    "the root": lambda value: value["backup"].update(root="0" * 64),
    "fewer pages": lambda value: value["backup"].update(n_pages=1, original_size_bytes=512),
    "an object left out": lambda value: value["objects"].pop(),
    "no parent": lambda value: value["backup"].update(parent_id=None, base_id=value["backup"]["id"]),
    "the owner of the file": lambda value: value["source"].update(mode=0o4777, uid=0),
    "the data key": lambda value: value["wrapped_key"].update(ciphertext="00" * 48) if value["wrapped_key"] else None,
    "no encryption": unencrypted,
}


@pytest.mark.sampled
@pytest.mark.parametrize(("what", "signature"), matrix("forged", FORGERIES, SIGNATURES))
def test_a_forged_manifest_is_refused_by_its_name(vault: Vault, what: str, signature: str) -> None:
    if vault.last.cipher == "none":
        return check_forged_without_encryption(vault, what)
    key = f"manifests/main/{vault.last.id}.json"
    old = json.loads(vault.pristine[key])["signature"]
    signatures: dict[str, object] = {
        "none": None,
        "the old one": old,
        "of a key that is not there": {**old, "key_id": "some-other-key"},
        "garbage": {**old, "value": base64.b64encode(b"garbage").decode()},
    }
    data = forged(vault.pristine[key], FORGERIES[what], signature=signatures[signature])
    if data == vault.pristine[key]:
        return None
    vault.write(key, data)
    for level in (Level.PAGES, Level.RESTORE):
        with pytest.raises((ObjectDamaged, KeyringError)):
            verified(vault.sandbox, vault.last.id, level)
    error = restore(vault, vault.last)
    assert isinstance(error, ObjectDamaged | KeyringError)
    if signature in ("none", "the old one"):
        assert key in error.message
    return None


def check_forged_without_encryption(vault: Vault, what: str) -> None:
    """Without a key nobody can tell who wrote a manifest; what contradicts the objects is refused all the same."""
    key = f"manifests/main/{vault.last.id}.json"
    vault.write(key, forged(vault.pristine[key], FORGERIES[what]))
    error = restore(vault, vault.last)
    harmless = what in ("nothing", "the data key", "no encryption")
    assert (error is None) == harmless


# ---- keys ----


@pytest.fixture
def keys(vault: Vault, tmp_path: Path) -> Sandbox:
    """A host of its own with the key, for tests that spoil it."""
    return another_host(vault.sandbox, tmp_path / "keys", Options(encryption=vault.sandbox.config.backup.encryption))


def key_error(vault: Vault, host: Sandbox, error: type[ContinuumError], tmp_path: Path) -> None:
    """Everything that needs the key says so, stores no verdict and touches no target; objects are checked without it."""
    if vault.last.cipher == "none":
        return
    before = objects(vault.sandbox)
    target = tmp_path / "out.db"
    with pytest.raises(error, match=KEY_ID) as info:
        restore_to(host, vault.last.id, target)
    assert info.value.hint and not target.exists()
    for level in (Level.PAGES, Level.RESTORE):
        with pytest.raises(error, match=KEY_ID):
            verified(host, vault.last.id, level)
    assert objects(vault.sandbox) == before
    assert verified(vault.bystander, vault.last.id, Level.OBJECTS).attestation.passed
    assert {found.id for found in listed(host)} == {vault.full.id, vault.last.id}


def test_without_the_key_everything_but_the_bytes_check_says_that_it_is_missing(
    vault: Vault, keys: Sandbox, tmp_path: Path
) -> None:
    (keys.config.keys_dir / f"{KEY_ID}.key").unlink(missing_ok=True)
    key_error(vault, keys, KeyMissing, tmp_path)


def test_another_key_under_the_name_is_told_from_a_damaged_backup(vault: Vault, keys: Sandbox, tmp_path: Path) -> None:
    shutil.rmtree(keys.config.keys_dir, ignore_errors=True)
    generate_key(keys.config.keys_dir, KEY_ID, random_bytes=secrets.token_bytes, now=datetime.now(UTC))
    key_error(vault, keys, KeyWrong, tmp_path)


def test_key_files_that_changed_places_are_noticed(vault: Vault, keys: Sandbox, tmp_path: Path) -> None:
    if vault.last.cipher != "none":
        second = generate_key(keys.config.keys_dir, "second", random_bytes=secrets.token_bytes, now=datetime.now(UTC))
        second.replace(second.with_name(f"{KEY_ID}.key"))
    key_error(vault, keys, KeyWrong, tmp_path)


@pytest.mark.parametrize("how", ["missing", "cut by a byte"])
def test_a_chain_with_an_object_gone_or_cut_is_never_built_on(vault: Vault, how: str) -> None:
    for key in vault.keys("layers/"):
        vault.write(key, DAMAGE[how](vault.pristine[key]))
        done = back_up_finished(vault.sandbox, "incremental")
        assert done.backup.parent_id is None and key in done.reason
        vault.mend()
        listed(vault.sandbox)


def test_a_proof_that_fails_is_stored_and_the_backup_no_longer_counts_as_verified(vault: Vault) -> None:
    chunk = vault.keys("layers/")[0]
    vault.write(chunk, vault.pristine[chunk][:-1] + b"\0")
    complaint(vault, Level.OBJECTS)
    (found,) = [found for found in listed(vault.sandbox) if found.id == vault.last.id]
    assert not found.verified and found.failed_at is not None
    vault.write(chunk, vault.pristine[chunk])
    verified(vault.sandbox, vault.last.id)
    (found,) = [found for found in listed(vault.sandbox) if found.id == vault.last.id]
    assert found.verified


def test_a_forged_failure_that_nobody_signed_fails_no_backup(vault: Vault) -> None:
    if vault.last.cipher == "none":
        return  # nobody signs there
    (key,) = vault.keys("attestations/")
    failed = {"level": "objects", "passed": False, "at": "2099-01-01T00:00:00+00:00"}
    stranger = {"key_id": "some-other-key", "value": "00:00"}
    for n, signature in enumerate((None, stranger)):
        data = forged(vault.pristine[key], lambda value: value.update(failed), signature=signature)
        vault.write(key.replace("/restore-", f"/objects-{n}-"), data)
    (found,) = [found for found in listed(vault.sandbox) if found.id == vault.last.id]
    assert found.verified and found.failed_at is None


class Together:
    """A storage that gives no manifest before as many are asked for at once as the barrier wants."""

    def __init__(self, storage: Storage, barrier: threading.Barrier) -> None:
        self._storage = storage
        self._barrier = barrier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if key.startswith("manifests/"):
            self._barrier.wait(timeout=10)
        return self._storage.get(key, offset=offset, length=length)


def test_a_verification_reads_the_manifests_of_the_links_its_catalog_knows_at_once(vault: Vault) -> None:
    with vault.sandbox.runtime() as runtime:
        repository = runtime.repository()
        repository.storage = Together(repository.storage, threading.Barrier(2))  # type: ignore[assignment]
        request = verify.VerifyRequest(backup_id=vault.last.id, level=Level.OBJECTS)
        done = finish(verify.verify_backup_chain(request, repository=repository, site=runtime.site, fan=runtime.fan()))
    assert done.attestation.passed
