"""Key files in their directory: made, taken from a copy, read. Never overwritten, never readable by others, never a link."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from continuum_tasks.config.files import create_file, make_directory, read_regular, system_reason
from continuum_tasks.config.values import KEY_ID, KEY_ID_ALLOWED
from continuum_tasks.errors import KeyMissing, KeyringError
from continuum_tasks.keyring.keyfile import KEY_BYTES, MAX_FILE_BYTES, KeyFile, decode_key, encode_key


def generate_key(keys_dir: Path, key_id: str, *, random_bytes: Callable[[int], bytes], now: datetime) -> Path:
    """Make a new key and return its file, durable. `random_bytes(n)` gives n secret bytes.

    Raises KeyringError when a key of that id is there already: a key is never overwritten.
    """
    check_id(key_id)
    secret = random_bytes(KEY_BYTES)
    if len(secret) != KEY_BYTES or now.tzinfo is None:
        raise RuntimeError(f"a key takes {KEY_BYTES} random bytes and an aware time")
    return _store(keys_dir, KeyFile(key_id=key_id, created_at=now.astimezone(UTC).replace(microsecond=0), secret=secret))


def import_key(keys_dir: Path, source_file: Path) -> Path:
    """Take a key from a copy (a file, or a pipe) under the id it names, and return its new file, durable.

    The same key being there already is fine. Raises KeyringError for a copy that is damaged, or another key of that id.
    """
    return adopt_key(keys_dir, read_key_copy(source_file))


def adopt_key(keys_dir: Path, key: KeyFile) -> Path:
    """As `import_key`, for a key that `read_key_copy` has read."""
    path = key_path(keys_dir, key.key_id)
    if not os.path.lexists(path):
        return _store(keys_dir, key)
    if not hmac.compare_digest(read_key(path).secret, key.secret):
        raise KeyringError(f"key {key.key_id}: {path} is another key", hint="keep both: import into another --config-dir")
    return path


def read_key_copy(source_file: Path) -> KeyFile:
    """Read and check a copy of a key, wherever it is and whoever may read it. Raises KeyringError."""
    try:
        with source_file.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise KeyringError(
            f"key file {source_file}: cannot be read: {system_reason(err)}", hint="name the copy of the key"
        ) from err
    return decode_key(data, name=f"key file {source_file}")


def read_key(path: Path) -> KeyFile:
    """Read one key file. Raises KeyMissing, or KeyringError with the remedy."""
    name = f"key file {path}"
    try:
        mode = path.lstat().st_mode
        data = read_regular(path, max_bytes=MAX_FILE_BYTES, flags=os.O_NOFOLLOW)
    except FileNotFoundError as err:
        raise KeyMissing(
            f"key {path.stem} is not in the keyring: looked for {path}",
            hint=f"put the copy you kept back: write it to {path} and chmod 600 {path}; without the key nothing can be opened",
        ) from err
    except OSError as err:
        hint = "key files are regular files that this user may read, no links"
        raise KeyringError(f"{name}: cannot be read: {system_reason(err)}", hint=hint) from err
    except ValueError as err:
        raise KeyringError(f"{name}: {err}", hint="key files are small regular files") from err
    if mode & 0o077:
        text = f"{name}: users other than its owner may read it (mode {mode & 0o777:04o})"
        raise KeyringError(text, hint=f"chmod 600 {path}")
    return decode_key(data, name=name)


def _store(keys_dir: Path, key: KeyFile) -> Path:
    path = key_path(keys_dir, key.key_id)
    try:
        make_directory(keys_dir)
        check_directory(keys_dir)
        create_file(path, encode_key(key))
    except FileExistsError as err:
        raise KeyringError(
            f"key {key.key_id}: {path} is there already", hint="a key is never overwritten: use another id"
        ) from err
    except OSError as err:
        message = f"key {key.key_id}: {path} cannot be written: {system_reason(err)}"
        raise KeyringError(message, hint="make the keys directory writable for this user") from err
    return path


def key_path(keys_dir: Path, key_id: str) -> Path:
    """Return where a key's file stands; the id must have been checked."""
    return keys_dir / f"{key_id}.key"


def check_id(key_id: str) -> None:
    """Raise KeyringError unless the id is one: it becomes a file name."""
    if not KEY_ID.fullmatch(key_id):
        raise KeyringError(f"key id {key_id[:80]!r} is not allowed", hint=f"allowed: {KEY_ID_ALLOWED}")


def check_directory(keys_dir: Path) -> None:
    """Raise KeyringError if others than the owner may enter the directory; one that is not there is fine."""
    try:
        mode = keys_dir.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as err:
        raise KeyringError(f"keys directory {keys_dir}: {system_reason(err)}", hint="make it readable for this user") from err
    if not keys_dir.is_dir():
        raise KeyringError(f"keys directory {keys_dir}: is not a directory", hint="set keys_dir in backup.conf")
    if mode & 0o077:
        message = f"keys directory {keys_dir}: users other than its owner may enter (mode {mode & 0o777:04o})"
        raise KeyringError(message, hint=f"chmod 700 {keys_dir}")
