"""Documents kept beside backups: holds, acceptances and drill records; and how any document is signed, judged and fetched."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from continuum_tasks.errors import IntegrityError, KeyringError, ObjectDamaged, ObjectMissing
from continuum_tasks.keyring import Keyring
from continuum_tasks.model import Acceptance, BackupId, DrillRecord, Hold, WrappedKey
from continuum_tasks.repository.documents import Document, Signature, decode_document, decode_value, encode_document
from continuum_tasks.storage.protocol import Storage

N_READERS = 16  # documents are small: latency, not bandwidth, decides how long a reindex over S3 takes
N_AHEAD = 64  # raw documents held at once while many are read ahead
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Signer:
    """Sign bytes with one key of a keyring."""

    keyring: Keyring
    key_id: str

    def __call__(self, data: bytes) -> Signature:
        return Signature(key_id=self.key_id, value=self.keyring.sign(self.key_id, data))


class Records:
    """The documents of one storage under this host's keys."""

    def __init__(self, storage: Storage, name: str, *, keyring: Keyring, accept_unsigned: bool) -> None:
        self.storage = storage
        self.name = name
        self._keyring = keyring
        self._accept_unsigned = accept_unsigned

    def put_hold(self, database: str, hold: Hold, *, key_id: str) -> None:
        """Store a hold beside the backup; holding again replaces it."""
        self.storage.put(f"holds/{database}/{hold.backup_id}.json", encode_document("hold", hold, sign=self._signer_of(key_id)))

    def delete_hold(self, database: str, backup_id: BackupId) -> None:
        """Remove a hold; nothing happens when there is none."""
        self.storage.delete(f"holds/{database}/{backup_id}.json")

    def holds(self) -> Iterator[tuple[str, Hold | IntegrityError]]:
        """Read all holds with their keys; a damaged one comes as its error."""
        return self._records("holds/", "hold", Hold)

    def put_acceptance(self, database: str, acceptance: Acceptance, *, key_id: str) -> None:
        """Store an acceptance beside the backup; accepting again replaces it. Raises KeyMissing: it is signed or not made."""
        data = encode_document("acceptance", acceptance, sign=self._signer(key_id) if key_id else None)
        self.storage.put(accepted_key(database, acceptance.backup_id), data)

    def acceptances(self) -> Iterator[tuple[str, Acceptance | IntegrityError]]:
        """Read all acceptances with their keys; one that is damaged, misplaced or lacks its signature comes as an error."""
        for key, record in self._records("accepted/", "acceptance", Acceptance, signed=not self._accept_unsigned):
            if isinstance(record, Acceptance) and not key.endswith(f"/{record.backup_id}.json"):
                yield key, ObjectDamaged(f"object {key}: accepts {record.backup_id}", hint="objects were swapped or renamed")
            else:
                yield key, record

    def put_drill(self, record: DrillRecord, *, key_id: str) -> None:
        """Store the record of a drill beside the backup."""
        data = encode_document("drill", record, sign=self._signer_of(key_id))
        stamp = f"{record.at:%Y%m%dT%H%M%SZ}-{hashlib.sha256(data).hexdigest()[:8]}"
        self.storage.put(f"drills/{record.database}/{record.backup_id}/{stamp}.json", data)

    def drills(self) -> Iterator[tuple[str, DrillRecord | IntegrityError]]:
        """Read all drill records with their keys; a damaged one comes as its error."""
        return self._records("drills/", "drill", DrillRecord)

    def encode_signed(self, kind: str, value: object, *, wrapped: WrappedKey | None) -> bytes:
        """Encode a document signed with the key that wraps a data key, unsigned for None. Raises KeyMissing."""
        return encode_document(kind, value, sign=None if wrapped is None else self._signer(wrapped.key_id))

    def decode_signed(self, kind: str, cls: type[T], key: str, data: bytes) -> T:
        """Read such a document as a listing does: its signature is checked where its key is here.

        Raises ObjectDamaged when it does not hold, and for an unsigned one where there are keys and encryption is on.
        """
        document = decode_document(kind, data, name=key)
        if document.signature is not None or not self._accepts_unsigned():
            with contextlib.suppress(KeyringError):  # signed under a key that is not here: listed unchecked
                self._check_signature(document, key)
        return decode_value(cls, document, name=key)

    def fetched(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes | IntegrityError]]:
        """Read small objects in parallel, in order; one that is gone since it was listed does not come."""
        return self._fetched(keys)

    def _records(
        self, prefix: str, kind: str, cls: type[T], *, signed: bool = False
    ) -> Iterator[tuple[str, T | IntegrityError]]:
        """Read documents of one kind; where they must be `signed`, one that cannot be judged here comes as its error."""
        for key, data in self._fetched([info.key for info in self.storage.list(prefix)]):
            try:
                read = data if isinstance(data, IntegrityError) else self._decode_record(key, data, kind, cls, signed=signed)
                yield key, read
            except IntegrityError as err:
                yield key, err
            except KeyringError as err:
                yield key, ObjectDamaged(f"object {key}: its signature cannot be checked: {err.message}", hint=err.hint)

    def _decode_record(self, key: str, data: bytes, kind: str, cls: type[T], *, signed: bool) -> T:
        document = decode_document(kind, data, name=key)
        signature = document.signature
        if signed or (signature is not None and self._keyring.has(signature.key_id)):
            self._check_signature(document, key)
        return decode_value(cls, document, name=key)

    def _signer_of(self, key_id: str) -> Signer | None:
        """Return a signer where the key is at hand: an objects-level verdict can be stored on a host without keys."""
        return self._signer(key_id) if key_id and self._keyring.has(key_id) else None

    def _check_signature(self, document: Document, key: str) -> None:
        """Raise ObjectDamaged unless a key of this host signed the document; KeyMissing, KeyWrong when it cannot tell."""
        signature = document.signature
        if signature is None:
            raise ObjectDamaged(
                f"object {key}: has no signature, and encryption is on",
                hint="somebody without the key may have written it; if it was made with `encryption = none`, set that again",
            )
        if not self._keyring.verify(signature.key_id, document.signed_bytes, signature.value):
            raise ObjectDamaged(
                f"object {key}: its signature does not hold under key {signature.key_id}",
                hint="somebody without the key wrote it, or the key of that name is another one",
            )

    def _signer(self, key_id: str) -> Signer:
        return Signer(self._keyring, key_id)

    def _accepts_unsigned(self) -> bool:
        """Tell whether a listing believes what nobody signed: encryption is off, or there is no key to judge with."""
        return self._accept_unsigned or not self._keyring.key_ids()

    def _fetched(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes | IntegrityError]]:
        """Read small objects in parallel, in order; one that is gone since it was listed does not come."""
        with ThreadPoolExecutor(N_READERS) as pool:
            for start in range(0, len(keys), N_AHEAD):
                some = keys[start : start + N_AHEAD]
                for key, data in zip(some, pool.map(self._get, some), strict=True):
                    if data is not None:
                        yield key, data

    def _get(self, key: str) -> bytes | IntegrityError | None:
        try:
            return self.storage.get(key)
        except IntegrityError as err:  # the storage itself noticed
            return err
        except ObjectMissing:
            return None


def accepted_key(database: str, backup_id: BackupId) -> str:
    return f"accepted/{database}/{backup_id}.json"
