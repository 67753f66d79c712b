"""The text of a key file: base32 without I, L, O and U, in four rows that each carry a checksum. Pure.

A copy typed from paper tells which row is wrong. Reading takes lower case, spaces and dashes anywhere, comments, empty lines.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b32decode, b32encode
from dataclasses import dataclass, field
from datetime import UTC, datetime

from continuum_tasks.config.values import KEY_ID, KEY_ID_ALLOWED
from continuum_tasks.errors import KeyringError

KEY_BYTES = 32
N_ROWS = 4
ROW_BYTES = KEY_BYTES // N_ROWS
ROW_CHECK_BYTES = 2  # 8 + 2 bytes are exactly 16 base32 characters; a wrong row passes once in 65,536
CHECK_BYTES = 5  # over id, time and key
MAX_FILE_BYTES = 16 * 1024
TITLE = "CONTINUUM BACKUP KEY 1"

_COMPARE = "compare it with the printed copy"
_RFC4648, _CROCKFORD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SHOWN = bytes.maketrans(_RFC4648, _CROCKFORD)
_TYPED = bytes.maketrans(_CROCKFORD + b"ILO", _RFC4648 + b"BBA")  # 1 is RFC 4648's B, 0 its A
_FIELD = re.compile(r"(id|created|row *[1-4]|check)[ \t:=]+(.+)", re.IGNORECASE)
_NOTE = """\
# If you lose this key, you lose every backup made with it. Keep a copy away from this machine and away from the storage:
# print this file, or put it into a password manager. On a new machine: continuum init --key-file COPY
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """One key; `secret` is 32 bytes and never shown. `created_at` in whole seconds."""

    key_id: str
    created_at: datetime
    secret: bytes = field(repr=False)


def encode_key(key: KeyFile) -> bytes:
    """Return the text a human can print and type back."""
    rows = [key.secret[i : i + ROW_BYTES] for i in range(0, KEY_BYTES, ROW_BYTES)]
    lines = [
        TITLE,
        f"id       {key.key_id}",
        f"created  {_stamp(key.created_at)}",
        *(f"row {n}    {_grouped(row + _row_check(n, row))}" for n, row in enumerate(rows, start=1)),
        f"check    {_grouped(_check(key))}",
    ]
    return (_NOTE + "\n".join(lines) + "\n").encode("ascii")


def decode_key(data: bytes, *, name: str) -> KeyFile:
    """Parse and check the text of a key file. Raises KeyringError, which never quotes it: nearly a key is a secret too."""
    fields = _fields(data, name)
    key_id, rows = fields["id"], [fields[f"row{n}"] for n in range(1, N_ROWS + 1)]
    if not KEY_ID.fullmatch(key_id):
        raise KeyringError(f"{name}: its id is not allowed", hint=f"allowed: {KEY_ID_ALLOWED}")
    try:
        created_at = datetime.strptime(fields["created"].upper(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise KeyringError(f"{name}: its time is not YYYY-MM-DDTHH:MM:SSZ", hint=_COMPARE) from None
    secret = b"".join(_row(n, text, name) for n, text in enumerate(rows, start=1))
    key = KeyFile(key_id=key_id, created_at=created_at, secret=secret)
    check = _bytes(fields["check"], n_bytes=CHECK_BYTES)
    if check is None or not hmac.compare_digest(check, _check(key)):
        raise KeyringError(f"{name}: the rows hold, but the check does not", hint=f"compare id, created and check: {_COMPARE}")
    return key


def _fields(data: bytes, name: str) -> dict[str, str]:
    if len(data) > MAX_FILE_BYTES or not data.isascii():
        raise KeyringError(f"{name}: is not a key file", hint=f"it begins with {TITLE!r}")
    lines = [line.strip() for line in data.decode("ascii").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or " ".join(lines[0].upper().split()) != TITLE:
        newer = bool(lines) and lines[0].upper().startswith(TITLE.rstrip("1"))
        hint = "a newer release made it: use that one" if newer else f"it begins with {TITLE!r}"
        raise KeyringError(f"{name}: is not a key file of version 1", hint=hint)
    fields: dict[str, str] = {}
    for line in lines[1:]:
        match = _FIELD.fullmatch(line)
        label = match[1].lower().replace(" ", "") if match else ""
        if not match or label in fields:
            raise KeyringError(f"{name}: has an unknown or repeated line", hint=_COMPARE)
        fields[label] = match[2]
    missing = {"id", "created", "check", *(f"row{n}" for n in range(1, N_ROWS + 1))} - set(fields)
    if missing:
        raise KeyringError(f"{name}: lacks {', '.join(sorted(missing))}", hint=_COMPARE)
    return fields


def _row(number: int, text: str, name: str) -> bytes:
    row = _bytes(text, n_bytes=ROW_BYTES + ROW_CHECK_BYTES)
    if row is None:
        raise KeyringError(f"{name}: row {number} is not 16 letters and digits without U", hint=_COMPARE)
    if not hmac.compare_digest(row[ROW_BYTES:], _row_check(number, row[:ROW_BYTES])):
        raise KeyringError(f"{name}: row {number} has a typing error", hint=_COMPARE)
    return row[:ROW_BYTES]


def _bytes(text: str, *, n_bytes: int) -> bytes | None:
    typed = re.sub(r"[\s-]", "", text).upper().encode("ascii")
    if len(typed) * 5 != n_bytes * 8 or typed.translate(None, _CROCKFORD + b"ILO"):
        return None
    return b32decode(typed.translate(_TYPED))


def _grouped(data: bytes) -> str:
    text = b32encode(data).translate(_SHOWN).decode("ascii")
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def _row_check(number: int, row: bytes) -> bytes:
    return hashlib.sha256(b"continuum key row %d:" % number + row).digest()[:ROW_CHECK_BYTES]


def _check(key: KeyFile) -> bytes:
    said = f"{TITLE}\n{key.key_id}\n{_stamp(key.created_at)}\n".encode("ascii")
    return hashlib.sha256(said + key.secret).digest()[:CHECK_BYTES]


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
