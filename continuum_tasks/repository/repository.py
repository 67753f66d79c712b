"""A repository: sealed layers, manifests and verdicts in one storage, by name.

    repository.json                                             who this repository is
    manifests/<database>/<backup id>.json                       written last, deleted first
    layers/<database>/<base id>/<backup id>/<number>-<nonce>.chunk
    attestations/<database>/<backup id>/<level>-<time>-<digest>.json
    holds/<database>/<backup id>.json                           may not expire
    drills/<database>/<backup id>/<time>-<digest>.json          test restores, with their measured RTO
    accepted/<database>/<backup id>.json                        anomalies that somebody looked at and found harmless

Chunk names carry a nonce, so a worker that lost its lease can never overwrite an object that a manifest names.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from continuum_tasks import failpoints
from continuum_tasks.errors import (
    BackupNotFound,
    IntegrityError,
    KeyringError,
    NewerFormat,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StorageUnreachable,
)
from continuum_tasks.history.chain import MAX_LINKS, check_chain
from continuum_tasks.history.manifest_rules import MODE_BITS, check_manifest, manifest_key
from continuum_tasks.layer.format import ObjectContext
from continuum_tasks.model import Attestation, Backup, BackupId, Manifest, WrappedKey
from continuum_tasks.repository.documents import decode_document, decode_value, encode_document
from continuum_tasks.repository.records import Records, accepted_key
from continuum_tasks.storage.protocol import ObjectInfo

T = TypeVar("T")

IDENTITY_KEY = "repository.json"
N_READERS = 16  # manifests are small: latency, not bandwidth, decides how long a reindex over S3 takes
N_AHEAD = 64  # raw manifests held at once while a chain is read ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    repository_id: str
    created_at: datetime


class Repository(Records):
    """The only reader and writer of repository objects; knows names and documents, not strategies."""

    def identity(self) -> Identity:
        """Return who this repository is.

        Raises ObjectMissing before the first backup, ObjectDamaged when it is damaged, NewerFormat.
        """
        document = decode_document("repository", self.storage.get(IDENTITY_KEY), name=IDENTITY_KEY)
        return decode_value(Identity, document, name=IDENTITY_KEY)

    def ensure_identity(self, proposed: Identity, *, n_known: int = 0) -> Identity:
        """Return the identity, making the repository when it is new: one that exists always wins over the proposal.

        A lost or damaged `repository.json` is written again from any manifest whose signature holds, so sealed objects keep
        the id they are bound to. Raises StorageUnreachable when nothing is there although `n_known` backups were made here,
        ObjectDamaged when it is damaged and no manifest says what it was, NewerFormat: what a newer version wrote stays.
        """
        damage: IntegrityError | None = None
        try:
            return self.identity()
        except NewerFormat:
            raise
        except ObjectMissing:
            known = self._signed_id()
        except IntegrityError as err:
            known, damage = self._signed_id(), err
        if known is None:
            self._refuse_new(damage, n_known)
        wanted = proposed if known is None else Identity(repository_id=known, created_at=proposed.created_at)
        try:
            self._put_identity(wanted, only_new=damage is None)
        except ObjectExists:
            return self.identity()
        return wanted

    def restore_identity(self, manifest: Manifest) -> Identity:
        """Write `repository.json` again, over a damaged one too, as a manifest says whose signature was checked."""
        wanted = Identity(repository_id=manifest.repository_id, created_at=manifest.backup.created_at)
        self._put_identity(wanted, only_new=False)
        return wanted

    def _put_identity(self, identity: Identity, *, only_new: bool) -> None:
        self.storage.put(IDENTITY_KEY, encode_document("repository", identity, sign=None), only_new=only_new)

    def _refuse_new(self, damage: IntegrityError | None, n_known: int) -> None:
        """Raise when a repository whose manifests do not say who it is cannot be a new one."""
        if damage is not None:
            raise ObjectDamaged(
                damage.message,
                hint=f"no manifest in storage {self.name} that a key here can check says what it was: bring the key of its"
                f" backups; if it holds none, remove {IDENTITY_KEY} there",
            ) from damage
        if n_known:
            raise StorageUnreachable(
                f"storage {self.name}: is empty, but {n_known} backups were made there",
                hint="is its disk mounted, the bucket right? if they are gone: `continuum backup reindex --accept-empty`",
            )

    def put_manifest(self, manifest: Manifest) -> Manifest:
        """Write a manifest, the commit point; returns it as it reads back. Raises ObjectExists when that id is taken.

        Special bits and a right of all to write are left out of the source's mode: no restore gives them back.
        Raises ObjectDamaged, before anything is written, for one that would not read back.
        """
        manifest = replace(manifest, source=replace(manifest.source, mode=manifest.source.mode & MODE_BITS))
        key = manifest_key(manifest.backup.database, manifest.backup.id)
        check_manifest(manifest, key)
        wrapped = manifest.wrapped_key
        data = encode_document("manifest", manifest, sign=None if wrapped is None else self._signer(wrapped.key_id))
        self.storage.put(key, data, only_new=True)
        return self._named(manifest)

    def key_ids(self) -> Collection[str]:
        """Return the ids of the keys this host holds."""
        return self._keyring.key_ids()

    def fingerprint_of(self, key_id: str) -> str | None:
        """Return the fingerprint of a key this host holds, None when it does not. Raises KeyringError for a damaged one."""
        return self._keyring.fingerprint(key_id) if self._keyring.has(key_id) else None

    def read_manifest(self, database: str, backup_id: BackupId, *, check_signature: bool = True) -> Manifest:
        """Read one manifest. Raises BackupNotFound, ObjectDamaged, KeyMissing or KeyWrong.

        Without `check_signature` it is judged as a listing does: as far as the keys here allow.
        """
        key = manifest_key(database, backup_id)
        try:
            data = self.storage.get(key)
        except ObjectMissing as err:
            raise BackupNotFound(
                f"backup {backup_id}: object {key} is not in storage {self.name}",
                hint=f"`continuum backup list --storage {self.name}` shows what is there",
            ) from err
        return self._decode_manifest(key, data, check_signature=check_signature)

    def read_chain(
        self, backup_id: BackupId, *, check_signature: bool = True, database: str = "", likely: Sequence[BackupId] = ()
    ) -> tuple[Manifest, ...]:
        """Read the manifests a restore of this backup needs, its full first.

        `database` empty = searched for. `likely` are the links somebody expects: they are read at once, and what the
        manifests say still decides. Raises BackupNotFound naming a link that is gone, ObjectDamaged, KeyMissing or KeyWrong.
        """
        name = database or self._database_of(backup_id)
        ahead = self._read_ahead(name, likely, check_signature=check_signature)
        chain: list[Manifest] = []
        seen: set[BackupId] = set()
        wanted: BackupId | None = backup_id
        while wanted is not None and len(chain) <= MAX_LINKS:
            if wanted in seen:
                raise BackupNotFound(
                    f"backup {backup_id}: its links form a loop at {wanted}", hint="run `continuum backup reindex`"
                )
            seen.add(wanted)
            link = ahead.pop(wanted, None) or self.read_manifest(name, wanted, check_signature=check_signature)
            chain.append(link)
            wanted = link.backup.parent_id
        chain.reverse()
        check_chain(chain)
        return tuple(chain)

    def _read_ahead(self, database: str, likely: Sequence[BackupId], *, check_signature: bool) -> dict[BackupId, Manifest]:
        """Read manifests in parallel; one that is not there or not sound is left for whoever really needs it to name."""
        keys = [manifest_key(database, backup_id) for backup_id in likely[:MAX_LINKS]]
        found: dict[BackupId, Manifest] = {}
        for key, data in self._fetched(keys):
            if isinstance(data, bytes):
                with contextlib.suppress(IntegrityError, KeyringError):
                    manifest = self._decode_manifest(key, data, check_signature=check_signature)
                    found[manifest.backup.id] = manifest
        return found

    def _database_of(self, backup_id: BackupId) -> str:
        found = [key.split("/")[1] for key in self.manifest_keys() if key.endswith(f"/{backup_id}.json")]
        if not found:
            raise BackupNotFound(
                f"backup {backup_id}: not in storage {self.name}, no object is manifests/*/{backup_id}.json",
                hint=f"`continuum backup list --storage {self.name}` shows what is there",
            )
        if len(found) > 1:
            raise BackupNotFound(
                f"backup {backup_id}: storage {self.name} has one of database {' and one of '.join(found)}",
                hint=f"say which one: --database {found[0]}",
            )
        return found[0]

    def has_manifest(self, database: str, backup_id: BackupId) -> bool:
        try:
            self.storage.stat(manifest_key(database, backup_id))
        except ObjectMissing:
            return False
        return True

    def manifest_keys(self, database: str = "") -> list[str]:
        """Return the manifests' keys, of one database or of all."""
        prefix = f"manifests/{database}/" if database else "manifests/"
        return [info.key for info in self.storage.list(prefix)]

    def manifests(self) -> Iterator[Manifest | IntegrityError]:
        """Read every manifest; one that is damaged comes as the error that names it.

        Signatures are checked where their key is here. Where there are keys, one without a signature counts as damaged; one
        whose key is not here is listed unchecked, and whoever restores it needs that key.
        """
        for key, data in self._fetched(self.manifest_keys()):
            if isinstance(data, IntegrityError):
                yield data
                continue
            try:
                yield self._decode_manifest(key, data, check_signature=False)
            except IntegrityError as err:
                yield err

    def put_attestation(self, database: str, attestation: Attestation, *, key_id: str) -> str:
        """Store a verdict beside the backup; returns its key. The same verdict twice is one object."""
        data = encode_document("attestation", attestation, sign=self._signer_of(key_id))
        stamp = f"{attestation.at:%Y%m%dT%H%M%SZ}-{hashlib.sha256(data).hexdigest()[:8]}"
        key = f"attestations/{database}/{attestation.backup_id}/{attestation.level}-{stamp}.json"
        self.storage.put(key, data)
        return key

    def attestations(self, database: str = "", backup_id: str = "") -> Iterator[tuple[str, Attestation | IntegrityError]]:
        """Read verdicts with their keys; a damaged one comes as its error, one that no key here can judge does not come."""
        prefix = f"attestations/{database}/{backup_id}/" if backup_id else "attestations/"
        return self._verdicts([info.key for info in self.storage.list(prefix)])

    def chain_attestations(self, chain: Sequence[Manifest]) -> Iterator[tuple[str, Attestation | IntegrityError]]:
        """As `attestations`, of all links of one chain: one listing answers for thousands of links."""
        links = {manifest.backup.id for manifest in chain}
        listed = self.storage.list(f"attestations/{chain[-1].backup.database}/")
        return self._verdicts([info.key for info in listed if info.key.split("/")[2] in links])

    def _verdicts(self, keys: Sequence[str]) -> Iterator[tuple[str, Attestation | IntegrityError]]:
        for key, data in self._fetched(keys):
            try:
                verdict = data if isinstance(data, IntegrityError) else self._decode_verdict(key, data)
            except IntegrityError as err:
                verdict = err
            if verdict is not None:
                yield key, verdict

    def _decode_verdict(self, key: str, data: bytes) -> Attestation | None:
        """Return a verdict, or None for one that is nobody's here: where there are keys, whoever counts has signed.

        An unsigned failure, dated far ahead, would else mark a good backup as failed for ever.
        """
        document = decode_document("attestation", data, name=key)
        verdict = decode_value(Attestation, document, name=key)
        nobodys = verdict if self._accepts_unsigned() else None
        if document.signature is None:
            return nobodys
        try:
            self._check_signature(document, key)
        except KeyringError:  # signed by a key that is not here, or is another one here: it counts where that key is
            return nobodys
        return verdict

    def replace_manifest(self, manifest: Manifest) -> Manifest:
        """Write a manifest over the one of the same backup: the commit point of a roll-forward. One put, so never half.

        Fields that a newer version gave the old one stay. Raises ObjectMissing or IntegrityError when that cannot be read.
        """
        key, wrapped = manifest_key(manifest.backup.database, manifest.backup.id), manifest.wrapped_key
        old = decode_document("manifest", self.storage.get(key), name=key)
        sign = None if wrapped is None else self._signer(wrapped.key_id)
        self.storage.put(key, encode_document("manifest", manifest, sign=sign, over=old))
        return self._named(manifest)

    def delete_backup(self, backup: Backup) -> int:
        """Delete a backup: its manifest first, so that it is no longer listed, then all that is kept under its id.

        The records of its drills stay: the timetable and the trend of the RTO need them, whatever became of the backup.

        Returns the bytes freed. Doing it again, or after it was cut short, removes what is left.
        """
        self.storage.delete(manifest_key(backup.database, backup.id))
        failpoints.reach("expire.manifest_deleted")
        n_bytes = 0
        for prefix in (
            f"layers/{backup.database}/{backup.base_id}",
            f"attestations/{backup.database}",
        ):
            for info in list(self.storage.list(f"{prefix}/{backup.id}/")):
                self.storage.delete(info.key)
                n_bytes += info.size_bytes
        self.storage.delete(f"holds/{backup.database}/{backup.id}.json")
        self.storage.delete(accepted_key(backup.database, backup.id))
        return n_bytes

    def layer_objects(self, database: str = "") -> Iterator[ObjectInfo]:
        """List every stored chunk, of one database or of all."""
        return self.storage.list(f"layers/{database}/" if database else "layers/")

    def stored(self, backup: Backup) -> dict[str, ObjectInfo]:
        """List what is stored under this backup's chain, by key: one listing answers for the whole chain."""
        return {info.key: info for info in self.storage.list(f"layers/{backup.database}/{backup.base_id}/")}

    def wrap(self, key_id: str, data_key: bytes, *, nonce: bytes, context: bytes) -> WrappedKey:
        return self._keyring.wrap(key_id, data_key, context=context, nonce=nonce)

    def unwrap(self, wrapped: WrappedKey | None, *, context: bytes) -> bytes | None:
        """Return the chain's data key, or None for an unencrypted chain. Raises KeyMissing or KeyWrong."""
        return None if wrapped is None else self._keyring.unwrap(wrapped, context=context)

    def _decode_manifest(self, key: str, data: bytes, *, check_signature: bool) -> Manifest:
        document = decode_document("manifest", data, name=key)
        manifest = decode_value(Manifest, document, name=key)
        check_manifest(manifest, key)
        if check_signature:
            if manifest.wrapped_key is not None or not self._accept_unsigned:
                self._check_signature(document, key)
        elif document.signature is not None or not self._accepts_unsigned():
            with contextlib.suppress(KeyringError):  # signed under a key that is not here: listed unchecked
                self._check_signature(document, key)
        return self._named(manifest)

    def _named(self, manifest: Manifest) -> Manifest:
        """Return it under this storage's name here, whatever another host calls it."""
        return replace(manifest, backup=replace(manifest.backup, storage=self.name))

    def _signed_id(self) -> str | None:
        """Return the repository's id as a manifest says whose signature holds; what cannot be judged here has no say.

        Raises NewerFormat when there is no such manifest and a newer version wrote some: they are of this repository.
        """
        newer: NewerFormat | None = None
        for key in self.manifest_keys():
            data = self._get(key)
            if isinstance(data, bytes):
                try:
                    return self._decode_manifest(key, data, check_signature=True).repository_id
                except NewerFormat as err:
                    newer = err
                except (KeyringError, IntegrityError):
                    continue
        if newer is not None:
            raise newer
        return None


def chunk_key(backup: tuple[str, str, str], index: int, nonce: str) -> str:
    """Name a chunk object of `(database, base id, backup id)`."""
    return f"layers/{'/'.join(backup)}/{index:06d}-{nonce}.chunk"


def key_context(repository_id: str, base_id: str) -> bytes:
    """What a wrapped data key is bound to, so it cannot be moved to another chain."""
    return f"continuum data key v1\0{repository_id}\0{base_id}".encode()


def chunk_context(manifest: Manifest, index: int) -> ObjectContext:
    return ObjectContext(repository_id=manifest.repository_id, backup_id=manifest.backup.id, kind="chunk", index=index)
