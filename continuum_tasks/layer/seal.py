"""Keys of an object, and sealing of its parts (docs/LAYER_FORMAT.md, section 4)."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from xxhash import xxh3_128

from continuum_tasks.layer.format import SALT_BYTES, TAG_BYTES, ObjectContext, ObjectHeader, encode_header
from continuum_tasks.model import Cipher

KEY_BYTES = 32
NO_COMMITMENT = bytes(KEY_BYTES)
_COMMITMENT = b"continuum layer v1 key commitment"
_OBJECT_KEY = b"continuum layer v1 object key"


def new_data_key(random_bytes: Callable[[int], bytes]) -> bytes:
    """Return a fresh data key; `random_bytes` is `os.urandom` outside tests."""
    return random_bytes(KEY_BYTES)


def key_commitment(data_key: bytes, salt: bytes) -> bytes:
    """Return the 32 bytes by which a header shows which data key it was sealed with."""
    return _derive(data_key, salt, _COMMITMENT)


def commits_to(header: ObjectHeader, data_key: bytes) -> bool:
    """Tell whether the header was written with this data key."""
    return hmac.compare_digest(header.commitment, key_commitment(data_key, header.salt))


def block_nonce(number: int) -> bytes:
    """Return the 12 bytes that stand for block `number`: never twice under one object key."""
    return bytes(4) + number.to_bytes(8, "big")


INDEX_NONCE = (1).to_bytes(4, "big") + bytes(8)


class _Seal(Protocol):
    def seal(self, nonce: bytes, data: bytes | bytearray | memoryview, bound: bytes, out: memoryview) -> None: ...
    def open(self, nonce: bytes, stored: memoryview, bound: bytes) -> bytes | memoryview: ...


class Sealer:
    """Seals and opens the parts of one object. Safe in several threads: it only holds what it was made with."""

    __slots__ = ("_bound", "_seal")

    def __init__(self, header: ObjectHeader, context: ObjectContext, data_key: bytes | None) -> None:
        self._bound = context.encode() + encode_header(header)
        self._seal: _Seal = _Checked()
        if header.cipher is Cipher.AES_256_GCM:
            if data_key is None or len(data_key) != KEY_BYTES:
                raise RuntimeError(f"{header.cipher} needs a data key of {KEY_BYTES} bytes")
            self._seal = _Encrypted(_derive(data_key, header.salt, _OBJECT_KEY + context.encode()))

    def seal_into(self, out: memoryview, data: bytes | bytearray | memoryview, *, nonce: bytes, also: bytes = b"") -> None:
        """Write `data` sealed to `out`, which is 16 bytes longer. `also` is bound too (the trailer, for the index)."""
        self._seal.seal(nonce, data, self._bound + nonce + also, out)

    def open(self, stored: memoryview, *, nonce: bytes, also: bytes = b"") -> bytes | memoryview:
        """Return the data of a sealed part. Raises ValueError when anything differs from what was sealed."""
        if len(stored) < TAG_BYTES:
            raise ValueError("a sealed part is shorter than its tag")
        return self._seal.open(nonce, stored, self._bound + nonce + also)


class _Encrypted:
    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, nonce: bytes, data: bytes | bytearray | memoryview, bound: bytes, out: memoryview) -> None:
        self._aead.encrypt_into(nonce, data, bound, out)

    def open(self, nonce: bytes, stored: memoryview, bound: bytes) -> bytes:
        try:
            return self._aead.decrypt(nonce, stored, bound)
        except InvalidTag as err:
            raise ValueError("the seal does not match: changed, or sealed for another object") from err


class _Checked:
    """Cipher none: a checksum where the tag would be, over the same things. Against accidents, not against forgery."""

    __slots__ = ()

    def seal(self, _nonce: bytes, data: bytes | bytearray | memoryview, bound: bytes, out: memoryview) -> None:
        out[:-TAG_BYTES] = data
        out[-TAG_BYTES:] = _check(bound, data)

    def open(self, _nonce: bytes, stored: memoryview, bound: bytes) -> memoryview:
        if _check(bound, stored[:-TAG_BYTES]) != stored[-TAG_BYTES:]:
            raise ValueError("the check does not match: changed, or written for another object")
        return stored[:-TAG_BYTES]


def _check(bound: bytes, data: bytes | bytearray | memoryview) -> bytes:
    total = xxh3_128(bound)
    total.update(data)
    return total.digest()


def _derive(data_key: bytes, salt: bytes, info: bytes) -> bytes:
    assert len(salt) == SALT_BYTES
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(data_key)
