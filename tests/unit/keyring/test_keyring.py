from __future__ import annotations

import hmac
import os
import stat
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.errors import KeyMissing, KeyringError, KeyWrong
from continuum_tasks.keyring import generate_key, import_key, open_keyring
from continuum_tasks.keyring.keyfile import KeyFile, decode_key, encode_key
from continuum_tasks.model import WrappedKey

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
SECRET = bytes(range(7, 39))
OTHER = bytes(range(100, 132))
DATA_KEY = bytes(range(200, 232))
NONCE = bytes(range(12))
ID = "backup-key-v1"


def make(keys_dir: Path, key_id: str = ID, secret: bytes = SECRET) -> Path:
    return generate_key(keys_dir, key_id, random_bytes=lambda n: secret[:n], now=NOW)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make(tmp_path / "keys")
    return tmp_path / "keys"


def wrapped(keys: Path) -> WrappedKey:
    return open_keyring(keys).wrap(ID, DATA_KEY, context=b"chain 1", nonce=NONCE)


def test_a_key_is_one_private_file_in_a_private_directory(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = make(tmp_path / "a" / "keys")
    finally:
        os.umask(before)

    assert path == tmp_path / "a" / "keys" / "backup-key-v1.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_text_of_version_1_stays_what_it_is() -> None:
    text = encode_key(KeyFile(key_id=ID, created_at=NOW, secret=SECRET)).decode()

    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "CONTINUUM BACKUP KEY 1",
        "id       backup-key-v1",
        "created  2026-11-23T01:02:03Z",
        "row 1    0W40 J2GB 1G6G X0C3",
        "row 2    1W81 24GK 2GAH CCM0",
        "row 3    2WC1 J6GV 3GEH XKSE",
        "row 4    3WG2 28H3 4GJJ CCKZ",
        "check    P1WX SNZY",
    ]
    assert text.isascii()


def test_a_key_is_never_overwritten(keys: Path) -> None:
    before = (keys / f"{ID}.key").read_bytes()

    with pytest.raises(KeyringError, match="is there already"):
        make(keys, secret=OTHER)

    assert (keys / f"{ID}.key").read_bytes() == before
    assert len(list(keys.iterdir())) == 1


@pytest.mark.parametrize("key_id", ["", "../x", "A", "a/b", "a.b", "x" * 65, "a\n", ".x"])
def test_an_id_that_is_no_plain_file_name_is_refused(tmp_path: Path, key_id: str) -> None:
    with pytest.raises(KeyringError, match="is not allowed"):
        make(tmp_path, key_id=key_id)
    with pytest.raises(KeyringError, match="is not allowed"):
        open_keyring(tmp_path / "none").fingerprint(key_id)
    assert not open_keyring(tmp_path / "none").has(key_id)


def test_too_little_randomness_and_naive_times_are_misuse(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        make(tmp_path / "k", secret=b"short")
    with pytest.raises(RuntimeError):
        generate_key(tmp_path / "k", ID, random_bytes=os.urandom, now=datetime(2026, 1, 1))
    assert not (tmp_path / "k").exists()


def test_a_wrapped_data_key_comes_back_under_the_same_context_only(keys: Path) -> None:
    ring = open_keyring(keys)

    assert ring.unwrap(wrapped(keys), context=b"chain 1") == DATA_KEY
    with pytest.raises(KeyWrong, match="does not open"):
        ring.unwrap(wrapped(keys), context=b"chain 2")


@pytest.mark.parametrize("name", ["nonce", "ciphertext"])
@given(position=st.integers(0, 95), bit=st.sampled_from([1, 2, 4, 8]))
def test_any_flipped_bit_of_a_wrapped_key_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, name: str, position: int, bit: int
):
    keys = tmp_path_factory.mktemp("ring") / "keys"
    make(keys)
    good = wrapped(keys)
    digits = list(getattr(good, name))
    digits[position % len(digits)] = f"{int(digits[position % len(digits)], 16) ^ bit:x}"

    with pytest.raises(KeyWrong):
        open_keyring(keys).unwrap(replace(good, **{name: "".join(digits)}), context=b"chain 1")


@given(nonce=st.text(max_size=30), ciphertext=st.text(max_size=30))
def test_hostile_wrapped_keys_are_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, nonce: str, ciphertext: str
) -> None:
    keys = tmp_path_factory.mktemp("ring") / "keys"
    make(keys)
    fingerprint = open_keyring(keys).fingerprint(ID)

    for some in (nonce, NONCE.hex()):
        hostile = WrappedKey(key_id=ID, fingerprint=fingerprint, nonce=some, ciphertext=ciphertext)
        with pytest.raises(KeyWrong):
            open_keyring(keys).unwrap(hostile, context=b"chain 1")


def test_another_key_of_the_same_id_is_told_from_the_right_one(keys: Path, tmp_path: Path) -> None:
    make(tmp_path / "other", secret=OTHER)
    signature = open_keyring(keys).sign(ID, b"data")

    with pytest.raises(KeyWrong, match="is another key than the one that was used"):
        open_keyring(tmp_path / "other").unwrap(wrapped(keys), context=b"chain 1")
    with pytest.raises(KeyWrong, match="is another key than the one that was used"):
        open_keyring(tmp_path / "other").verify(ID, b"data", signature)


def test_a_missing_key_is_named_with_the_place_and_the_remedy(keys: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path / "empty"):
        if place.name == "empty":
            place.mkdir(mode=0o700)
        with pytest.raises(KeyMissing) as caught:
            open_keyring(place).unwrap(wrapped(keys), context=b"chain 1")
        assert f"key {ID} is not in the keyring: looked for {place}/{ID}.key" in caught.value.message
        assert "copy" in caught.value.hint


def test_signatures_hold_for_exactly_the_bytes_that_were_signed(keys: Path) -> None:
    ring = open_keyring(keys)
    signature = ring.sign(ID, b"data")

    assert ring.verify(ID, b"data", signature)
    assert not ring.verify(ID, b"datA", signature)
    assert not ring.verify(ID, b"data", signature[:-1])
    assert not ring.verify(ID, b"data", signature[:-1] + "\ud800")
    with pytest.raises(KeyWrong):
        ring.verify(ID, b"data", "")


def hkdf(purpose: str, n_bytes: int) -> bytes:
    """RFC 5869 for up to 32 bytes, with the standard library alone."""
    extracted = hmac.digest(bytes(32), SECRET, "sha256")
    return hmac.digest(extracted, f"continuum key v1 {purpose}".encode() + b"\x01", "sha256")[:n_bytes]


def test_wrapping_signing_and_the_fingerprint_use_independent_keys_that_stay_what_they_are(keys: Path) -> None:
    ring = open_keyring(keys)
    fingerprint = hkdf("fingerprint", 16).hex()
    bound = b"continuum wrapped key v1" + b"\x00\x0d" + ID.encode() + b"chain 1"

    assert ring.fingerprint(ID) == fingerprint == wrapped(keys).fingerprint
    assert ring.sign(ID, b"data") == f"{fingerprint}:{hmac.digest(hkdf('sign', 32), b'data', 'sha256').hex()}"
    assert wrapped(keys).ciphertext == AESGCM(hkdf("wrap", 32)).encrypt(NONCE, DATA_KEY, bound).hex()


def test_a_nonce_of_another_length_is_misuse(keys: Path) -> None:
    with pytest.raises(RuntimeError):
        open_keyring(keys).wrap(ID, DATA_KEY, context=b"", nonce=b"short")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_key_others_may_touch_is_refused_with_the_command_that_helps(keys: Path, mode: int) -> None:
    path = keys / f"{ID}.key"
    path.chmod(mode)

    with pytest.raises(KeyringError) as caught:
        wrapped(keys)

    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_a_directory_others_may_enter_is_refused_with_the_command_that_helps(keys: Path, mode: int) -> None:
    keys.chmod(mode)

    with pytest.raises(KeyringError) as caught:
        open_keyring(keys)

    assert caught.value.hint == f"chmod 700 {keys}"


def test_links_directories_and_fifos_are_no_keys(keys: Path, tmp_path: Path) -> None:
    (keys / "link.key").symlink_to(keys / f"{ID}.key")
    (keys / "directory.key").mkdir(mode=0o700)
    os.mkfifo(keys / "fifo.key", 0o600)
    (keys / "huge.key").touch(0o600)
    (keys / "huge.key").write_bytes(b"#" * 20_000)
    (tmp_path / "file").touch()

    said = {"link": "symbolic links", "directory": "not a regular file", "fifo": "not a regular file", "huge": "longer than"}
    for key_id, words in said.items():
        with pytest.raises(KeyringError, match=rf"{key_id}\.key: .*{words}"):
            open_keyring(keys).fingerprint(key_id)
    with pytest.raises(KeyringError, match="is not a directory"):
        open_keyring(tmp_path / "file")


def test_a_broken_key_stands_in_the_way_of_no_other(keys: Path) -> None:
    (keys / "broken.key").touch(0o600)

    assert open_keyring(keys).key_ids() == (ID, "broken")
    assert open_keyring(keys).has("broken")
    assert open_keyring(keys).unwrap(wrapped(keys), context=b"chain 1") == DATA_KEY
    with pytest.raises(KeyringError, match=r"broken\.key"):
        open_keyring(keys).fingerprint("broken")
    assert open_keyring(keys / "none").key_ids() == ()


def test_a_key_file_under_another_name_is_refused(keys: Path) -> None:
    (keys / f"{ID}.key").rename(keys / "renamed.key")

    with pytest.raises(KeyWrong, match=f"holds key {ID}"):
        open_keyring(keys).fingerprint("renamed")


def test_a_printed_key_typed_back_is_the_same_key(keys: Path, tmp_path: Path) -> None:
    typed = (keys / f"{ID}.key").read_text().lower().replace("0", "o").replace("1", "l").replace("row ", "row")
    typed = typed.replace("continuum backup key l", "continuum  backup key 1").replace("backup-key-vl", "backup-key-v1")
    typed = "\r\n".join(
        "created: 2026-11-23T01:02:03Z" if "created" in line else line.replace("rowl", "row 1") + "  "
        for line in typed.splitlines()
        if not line.startswith("#")
    )
    typed = typed.replace(" ", "-", 0)
    (tmp_path / "typed.txt").write_text(typed)

    path = import_key(tmp_path / "new", tmp_path / "typed.txt")

    assert path == tmp_path / "new" / f"{ID}.key"
    assert path.read_bytes() == (keys / f"{ID}.key").read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_importing_the_same_key_again_is_fine_and_another_one_is_refused(keys: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", secret=OTHER)

    assert import_key(keys, keys / f"{ID}.key") == keys / f"{ID}.key"
    before = (keys / f"{ID}.key").read_bytes()
    with pytest.raises(KeyringError, match="is another key"):
        import_key(keys, other)
    assert (keys / f"{ID}.key").read_bytes() == before


def test_a_copy_may_come_through_a_pipe(keys: Path, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, (keys / f"{ID}.key").read_bytes())
    os.close(write_end)
    try:
        assert import_key(tmp_path / "new", Path(f"/dev/fd/{read_end}")).exists()
    finally:
        os.close(read_end)


@given(secret=st.binary(min_size=32, max_size=32), key_id=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True))
def test_every_key_reads_back_as_it_was_written(secret: bytes, key_id: str) -> None:
    key = KeyFile(key_id=key_id, created_at=NOW, secret=secret)

    assert decode_key(encode_key(key), name="key") == key


@given(position=st.integers(0), typed=st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"), row=st.integers(1, 4))
def test_a_typing_error_names_its_row_and_shows_nothing(position: int, typed: str, row: int) -> None:
    lines = encode_key(KeyFile(key_id=ID, created_at=NOW, secret=SECRET)).decode().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"row {row}"))
    spots = [i for i in range(9, len(lines[at])) if lines[at][i] not in f" {typed}"]
    spot = spots[position % len(spots)]
    lines[at] = lines[at][:spot] + typed + lines[at][spot + 1 :]

    with pytest.raises(KeyringError, match=f"row {row} has a typing error") as caught:
        decode_key("\n".join(lines).encode(), name="key")

    shown = "".join(traceback.format_exception(caught.value))
    assert not any(group in shown for line in lines[5:] for group in line.split()[2:])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("KEY 1", "KEY 2", "not a key file of version 1"),
        ("CONTINUUM BACKUP KEY 1\n", "", "not a key file"),
        ("backup-key-v1", "backup-key-v2", "the check does not"),
        ("backup-key-v1", "../x", "its id is not allowed"),
        ("01:02:03Z", "01:02:04Z", "the check does not"),
        ("01:02:03Z", "01:02", "its time is not"),
        ("P1WX SNZY", "P1WX SNZZ", "the check does not"),
        ("P1WX SNZY", "P1WX", "the check does not"),
        ("0W40 J2GB", "0W40 J2G", "row 1 is not 16"),
        ("0W40 J2GB", "0W40 J2GU", "row 1 is not 16"),
        ("0W40 J2GB", "0W40 J2G!", "row 1 is not 16"),
        ("row 2", "row 1", "unknown or repeated line"),
        ("row 2", "row 5", "unknown"),
        ("check", "chuck", "unknown"),
        ("created  2026-11-23T01:02:03Z\n", "", "lacks created"),
        ("id  ", "\xefd  ", "not a key file"),
    ],
)
def test_a_damaged_key_file_says_what_is_wrong_with_it(old: str, new: str, said: str) -> None:
    text = encode_key(KeyFile(key_id=ID, created_at=NOW, secret=SECRET)).decode()
    assert old in text

    with pytest.raises(KeyringError, match=said) as caught:
        decode_key(text.replace(old, new, 1).encode(), name="key")

    assert caught.value.hint


def test_swapped_rows_are_found() -> None:
    text = encode_key(KeyFile(key_id=ID, created_at=NOW, secret=SECRET)).decode()
    swapped = text.replace("row 1", "row X").replace("row 2", "row 1").replace("row X", "row 2")

    with pytest.raises(KeyringError, match="row 1 has a typing error"):
        decode_key(swapped.encode(), name="key")


@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(b"CONTINUUM BACKUP KEY 1\nid x\n".__add__)))
def test_any_bytes_are_a_key_or_a_keyring_error(data: bytes) -> None:
    with pytest.raises(KeyringError):
        decode_key(data, name="key")


def test_no_secret_is_in_any_text_form(keys: Path) -> None:
    key = KeyFile(key_id=ID, created_at=NOW, secret=SECRET)
    ring = open_keyring(keys)

    for text in (repr(key), str(key), repr(ring), str(ring), repr(wrapped(keys))):
        assert repr(SECRET)[2:-1] not in text
        assert SECRET.hex() not in text


def test_a_keys_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(KeyringError, match="cannot be written: not a directory"):
        make(tmp_path / "file" / "keys")
    with pytest.raises(KeyringError, match="cannot be read: no such file"):
        import_key(tmp_path / "keys", tmp_path / "none")
