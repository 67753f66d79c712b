"""A repository: sealed layers, manifests and verdicts in one storage, by name.

    repository.json                                             who this repository is
    manifests/<database>/<backup id>.json                       written last, deleted first
    layers/<database>/<base id>/<backup id>/<number>-<nonce>.chunk
    attestations/<database>/<backup id>/<level>-<time>-<digest>.json

Chunk names carry a nonce, so a worker that lost its lease can never overwrite an object that a manifest names.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from continuum_tasks.errors import (
    BackupNotFound,
    IntegrityError,
    KeyringError,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StorageUnreachable,
)
from continuum_tasks.keyring import Keyring
from continuum_tasks.layer.format import ObjectContext
from continuum_tasks.manifest import Document, Signature, decode_document, decode_value, encode_document
from continuum_tasks.model import Attestation, Backup, BackupId, Cipher, Level, Manifest, StoredObject, WrappedKey
from continuum_tasks.plan.chain import MAX_LINKS
from continuum_tasks.plan.restore import check_chain
from continuum_tasks.storage.protocol import ObjectInfo, Storage

IDENTITY_KEY = "repository.json"
N_READERS = 16  # manifests are small: latency, not bandwidth, decides how long a reindex over S3 takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    repository_id: str
    created_at: datetime


class Repository:
    """The only reader and writer of repository objects; knows names and documents, not strategies."""

    def __init__(self, storage: Storage, name: str, *, keyring: Keyring, accept_unsigned: bool) -> None:
        self.storage = storage
        self.name = name
        self._keyring = keyring
        self._accept_unsigned = accept_unsigned

    def identity(self) -> Identity:
        """Return who this repository is. Raises ObjectMissing before the first backup, ObjectDamaged when it is damaged."""
        document = decode_document("repository", self.storage.get(IDENTITY_KEY), name=IDENTITY_KEY)
        return decode_value(Identity, document, name=IDENTITY_KEY)

    def ensure_identity(self, proposed: Identity, *, n_known: int = 0) -> Identity:
        """Return the identity, making the repository when it is new: one that exists always wins over the proposal.

        A lost `repository.json` is written again from any manifest, so sealed objects keep the id they are bound to.
        Raises StorageUnreachable when nothing is there although `n_known` backups were made here.
        """
        try:
            return self.identity()
        except ObjectMissing:
            known = next(self._signed_ids(), None)
        if known is None and n_known:
            raise StorageUnreachable(
                f"storage {self.name}: is empty, but {n_known} backups were made there",
                hint="is its disk mounted, the bucket right? if they are gone: `continuum backup reindex --accept-empty`",
            )
        wanted = proposed if known is None else Identity(repository_id=known, created_at=proposed.created_at)
        try:
            self.storage.put(IDENTITY_KEY, encode_document("repository", wanted, sign=None), only_new=True)
        except ObjectExists:
            return self.identity()
        return wanted

    def put_manifest(self, manifest: Manifest) -> Manifest:
        """Write a manifest, the commit point; returns it as it reads back. Raises ObjectExists when that id is taken."""
        wrapped = manifest.wrapped_key
        data = encode_document("manifest", manifest, sign=None if wrapped is None else self._signer(wrapped.key_id))
        self.storage.put(manifest_key(manifest.backup.database, manifest.backup.id), data, only_new=True)
        return self._named(manifest)

    def key_ids(self) -> Collection[str]:
        """Return the ids of the keys this host holds."""
        return self._keyring.key_ids()

    def read_manifest(self, database: str, backup_id: BackupId, *, check_signature: bool = True) -> Manifest:
        """Read one manifest. Raises BackupNotFound, ObjectDamaged, KeyMissing or KeyWrong."""
        key = manifest_key(database, backup_id)
        try:
            data = self.storage.get(key)
        except ObjectMissing as err:
            raise BackupNotFound(
                f"backup {backup_id}: no manifest in storage {self.name}",
                hint="`continuum backup list --storage` shows what is there",
            ) from err
        return self._decode_manifest(key, data, check_signature=check_signature)

    def read_chain(self, backup_id: BackupId, *, check_signature: bool = True) -> tuple[Manifest, ...]:
        """Read the manifests a restore of this backup needs, its full first.

        Raises BackupNotFound naming a link that is gone, ObjectDamaged, KeyMissing or KeyWrong.
        """
        chain = [self.read_manifest(self._database_of(backup_id), backup_id, check_signature=check_signature)]
        seen = {backup_id}
        while (parent_id := chain[-1].backup.parent_id) is not None and len(chain) <= MAX_LINKS:
            if parent_id in seen:
                raise BackupNotFound(
                    f"backup {backup_id}: its links form a loop at {parent_id}", hint="run `continuum backup reindex`"
                )
            seen.add(parent_id)
            chain.append(self.read_manifest(chain[-1].backup.database, parent_id, check_signature=check_signature))
        chain.reverse()
        check_chain(chain)
        return tuple(chain)

    def _database_of(self, backup_id: BackupId) -> str:
        found = [key.split("/")[1] for key in self.manifest_keys() if key.endswith(f"/{backup_id}.json")]
        if not found:
            raise BackupNotFound(
                f"backup {backup_id}: not in storage {self.name}",
                hint=f"`continuum backup list --storage {self.name}` shows what is there",
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
        """Read every manifest without needing a key; one that is damaged comes as the error that names it."""
        keys = self.manifest_keys()
        with ThreadPoolExecutor(N_READERS) as pool:
            for key, data in zip(keys, pool.map(self._get_or_none, keys), strict=True):
                if data is None:
                    continue
                try:
                    yield self._decode_manifest(key, data, check_signature=False)
                except IntegrityError as err:
                    yield err

    def put_attestation(self, database: str, attestation: Attestation, *, key_id: str) -> str:
        """Store a verdict beside the backup; returns its key. The same verdict twice is one object."""
        sign = self._signer(key_id) if key_id and self._keyring.has(key_id) else None
        data = encode_document("attestation", attestation, sign=sign)
        stamp = f"{attestation.at:%Y%m%dT%H%M%SZ}-{hashlib.sha256(data).hexdigest()[:8]}"
        key = f"attestations/{database}/{attestation.backup_id}/{attestation.level}-{stamp}.json"
        self.storage.put(key, data)
        return key

    def attestations(self, database: str = "", backup_id: str = "") -> Iterator[tuple[str, Attestation | IntegrityError]]:
        """Read verdicts with their keys; a damaged one comes as its error, one that no key here can judge does not come."""
        prefix = f"attestations/{database}/{backup_id}/" if backup_id else "attestations/"
        keys = [info.key for info in self.storage.list(prefix)]
        with ThreadPoolExecutor(N_READERS) as pool:
            for key, data in zip(keys, pool.map(self._get_or_none, keys), strict=True):
                if data is None:
                    continue
                try:
                    document = decode_document("attestation", data, name=key)
                    verdict = decode_value(Attestation, document, name=key)
                    # Who has no key can read stored bytes, so an unsigned word about more than those is nobody's.
                    keyless = verdict.level is Level.OBJECTS or not self._keyring.key_ids()
                    self._check_signature(document, key, only_if_known=keyless or self._accept_unsigned)
                except IntegrityError as err:
                    yield key, err
                except KeyringError:  # signed by a key that is not here, or is another one here: it counts where that key is
                    continue
                else:
                    yield key, verdict

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
        if key != manifest_key(manifest.backup.database, manifest.backup.id):
            raise ObjectDamaged(
                f"object {key}: holds the manifest of {manifest.backup.id}", hint="objects were swapped or renamed"
            )
        if (manifest.wrapped_key is None) != (manifest.backup.cipher is Cipher.NONE):
            raise ObjectDamaged(f"object {key}: says {manifest.backup.cipher} but its key says otherwise", hint="it was forged")
        if check_signature and not (manifest.wrapped_key is None and self._accept_unsigned):
            self._check_signature(document, key, only_if_known=False)
        return self._named(manifest)

    def _named(self, manifest: Manifest) -> Manifest:
        """Return it under this storage's name here, whatever another host calls it."""
        return replace(manifest, backup=replace(manifest.backup, storage=self.name))

    def _check_signature(self, document: Document, key: str, *, only_if_known: bool) -> None:
        signature = document.signature
        if signature is None or (only_if_known and not self._keyring.has(signature.key_id)):
            if only_if_known:
                return
            raise ObjectDamaged(
                f"object {key}: has no signature, and encryption is on",
                hint="somebody without the key may have written it; if it was made with `encryption = none`, set that again",
            )
        try:
            holds = self._keyring.verify(signature.key_id, document.signed_bytes, signature.value)
        except KeyringError:
            if only_if_known:  # a key of that name is here, but not the one that signed: as good as none
                return
            raise
        if not holds:
            raise ObjectDamaged(
                f"object {key}: its signature does not hold under key {signature.key_id}",
                hint="somebody without the key wrote it, or the key of that name is another one",
            )

    def _signer(self, key_id: str) -> Signer:
        return Signer(self._keyring, key_id)

    def _signed_ids(self) -> Iterator[str]:
        """Yield the repository ids that manifests name whose signature holds; what cannot be judged here has no say."""
        for key in self.manifest_keys():
            data = self._get_or_none(key)
            if data is not None:
                with contextlib.suppress(KeyringError):
                    yield self._decode_manifest(key, data, check_signature=True).repository_id

    def _get_or_none(self, key: str) -> bytes | None:
        try:
            return self.storage.get(key)
        except ObjectMissing:
            return None  # deleted between the listing and now


@dataclass(frozen=True, slots=True)
class Signer:
    """Sign bytes with one key of a keyring."""

    keyring: Keyring
    key_id: str

    def __call__(self, data: bytes) -> Signature:
        return Signature(key_id=self.key_id, value=self.keyring.sign(self.key_id, data))


def manifest_key(database: str, backup_id: BackupId) -> str:
    return f"manifests/{database}/{backup_id}.json"


def chunk_key(backup: tuple[str, str, str], index: int, nonce: str) -> str:
    """Name a chunk object of `(database, base id, backup id)`."""
    return f"layers/{'/'.join(backup)}/{index:06d}-{nonce}.chunk"


def key_context(repository_id: str, base_id: str) -> bytes:
    """What a wrapped data key is bound to, so it cannot be moved to another chain."""
    return f"continuum data key v1\0{repository_id}\0{base_id}".encode()


def chunk_context(manifest: Manifest, index: int) -> ObjectContext:
    return ObjectContext(repository_id=manifest.repository_id, backup_id=manifest.backup.id, kind="chunk", index=index)


def missing_objects(manifest: Manifest, stored: dict[str, ObjectInfo]) -> list[StoredObject]:
    """Return the manifest's objects that are not stored, or not with their size."""
    return [o for o in manifest.objects if o.key not in stored or stored[o.key].size_bytes != o.size_bytes]
