"""The keyring: wrap and unwrap data keys, sign and verify.

From the 32 bytes of a key HKDF-SHA256 derives three independent values: a key to wrap, a key to sign, and the fingerprint that
anyone may see.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from continuum_tasks.config.values import KEY_ID
from continuum_tasks.errors import KeyWrong
from continuum_tasks.keyring.keyfile import KEY_BYTES, KeyFile
from continuum_tasks.keyring.store import check_directory, check_id, key_path, read_key
from continuum_tasks.model import WrappedKey

NONCE_BYTES = 12


def open_keyring(keys_dir: Path) -> Keyring:
    """Return the keyring in a directory; one that is not there is empty. Raises KeyringError if others may enter.

    Key files are read when they are needed: one that is damaged stands in the way of no other.
    """
    check_directory(keys_dir)
    return Keyring(keys_dir)


class Keyring:
    """The keys of one directory. Holds no secret itself: each use reads the key's file."""

    __slots__ = ("directory",)

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"Keyring({str(self.directory)!r})"

    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of the keys that are here, sorted."""
        if not self.directory.is_dir():
            return ()
        return tuple(sorted(p.stem for p in self.directory.glob("*.key") if KEY_ID.fullmatch(p.stem)))

    def has(self, key_id: str) -> bool:
        """True when there is a file for that key; whether it is sound shows when it is used."""
        return KEY_ID.fullmatch(key_id) is not None and os.path.lexists(key_path(self.directory, key_id))

    def fingerprint(self, key_id: str) -> str:
        """Return 32 hex digits that tell keys apart and say nothing about them."""
        return _fingerprint(self._key(key_id).secret)

    def wrap(self, key_id: str, data_key: bytes, *, context: bytes, nonce: bytes) -> WrappedKey:
        """Seal a data key under a key of this ring, bound to `context`; `nonce` is 12 fresh random bytes."""
        if len(nonce) != NONCE_BYTES:
            raise RuntimeError(f"a nonce takes {NONCE_BYTES} bytes")
        secret = self._key(key_id).secret
        sealed = AESGCM(_derive(secret, "wrap")).encrypt(nonce, data_key, _bound(key_id, context))
        return WrappedKey(key_id=key_id, fingerprint=_fingerprint(secret), nonce=nonce.hex(), ciphertext=sealed.hex())

    def unwrap(self, wrapped: WrappedKey, *, context: bytes) -> bytes:
        """Return the data key. Raises KeyMissing, or KeyWrong when the key here is another one or `wrapped` was altered."""
        secret = self._key(wrapped.key_id).secret
        self._check_fingerprint(wrapped.key_id, secret, wrapped.fingerprint)
        altered = f"key {wrapped.key_id}: the wrapped data key does not open with it, though its fingerprint is right"
        hint = "the wrapped key was altered or belongs to another chain: try another backup"
        try:
            nonce, sealed = bytes.fromhex(wrapped.nonce), bytes.fromhex(wrapped.ciphertext)
        except ValueError as err:
            raise KeyWrong(altered, hint=hint) from err
        if len(nonce) != NONCE_BYTES:
            raise KeyWrong(altered, hint=hint)
        try:
            return AESGCM(_derive(secret, "wrap")).decrypt(nonce, sealed, _bound(wrapped.key_id, context))
        except InvalidTag as err:
            raise KeyWrong(altered, hint=hint) from err

    def sign(self, key_id: str, data: bytes) -> str:
        """Return `<fingerprint>:<HMAC-SHA256 of data>` in hex, under a signing key derived from that key."""
        secret = self._key(key_id).secret
        return f"{_fingerprint(secret)}:{_mac(secret, data)}"

    def verify(self, key_id: str, data: bytes, signature: str) -> bool:
        """True when `signature` is this key's for exactly `data`. Raises KeyMissing, or KeyWrong when another key signed."""
        secret = self._key(key_id).secret
        fingerprint, _, mac = signature.partition(":")
        self._check_fingerprint(key_id, secret, fingerprint)
        return hmac.compare_digest(_mac(secret, data).encode(), mac.encode("utf-8", "replace"))

    def _key(self, key_id: str) -> KeyFile:
        # The id may come from a stored manifest: it is checked before it becomes a path
        check_id(key_id)
        key = read_key(key_path(self.directory, key_id))
        if key.key_id != key_id:
            path = key_path(self.directory, key_id)
            raise KeyWrong(f"key {key_id}: {path} holds key {key.key_id}", hint=f"rename it to {key.key_id}.key")
        return key

    def _check_fingerprint(self, key_id: str, secret: bytes, wanted: str) -> None:
        found = _fingerprint(secret)
        if not hmac.compare_digest(found.encode(), wanted.encode("utf-8", "replace")):
            raise KeyWrong(
                f"key {key_id}: {key_path(self.directory, key_id)} is another key than the one that was used"
                f" (fingerprint {found[:8]}, wanted {wanted[:8]!r})",
                hint="use the copy of that key that you kept: continuum init --config-dir NEW --key-file COPY",
            )


def _derive(secret: bytes, purpose: str, *, n_bytes: int = KEY_BYTES) -> bytes:
    return HKDF(algorithm=SHA256(), length=n_bytes, salt=None, info=f"continuum key v1 {purpose}".encode()).derive(secret)


def _fingerprint(secret: bytes) -> str:
    return _derive(secret, "fingerprint", n_bytes=16).hex()


def _mac(secret: bytes, data: bytes) -> str:
    return hmac.new(_derive(secret, "sign"), data, hashlib.sha256).hexdigest()


def _bound(key_id: str, context: bytes) -> bytes:
    name = key_id.encode("ascii")
    return b"continuum wrapped key v1" + len(name).to_bytes(2, "big") + name + context
