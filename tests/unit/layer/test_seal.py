from __future__ import annotations

from dataclasses import replace

import pytest

from continuum_tasks.layer.format import ObjectContext, ObjectHeader
from continuum_tasks.layer.seal import INDEX_NONCE, Sealer, block_nonce, commits_to, key_commitment, new_data_key
from continuum_tasks.model import Cipher, Codec
from tests.support.layer_objects import CONTEXT, KEY, OTHER_KEY, SALT, key_for, sealed
from tests.support.layer_stranger import hkdf

HEADER = ObjectHeader(
    codec=Codec.ZSTD, cipher=Cipher.AES_256_GCM, page_size=4096, salt=SALT, commitment=key_commitment(KEY, SALT)
)
DATA = b"forty-two bytes that are to be kept secret"
CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))


def sealer(cipher: Cipher, *, context: ObjectContext = CONTEXT, **header: object) -> Sealer:
    return Sealer(replace(HEADER, cipher=cipher, **header), context, key_for(cipher))


def test_a_data_key_is_32_bytes_from_the_given_source():
    assert new_data_key(lambda n: b"r" * n) == b"r" * 32


def test_the_commitment_is_hkdf_of_key_and_salt():
    assert key_commitment(KEY, SALT) == hkdf(KEY, SALT, b"continuum layer v1 key commitment")


def test_a_header_commits_to_its_key_and_no_other():
    assert commits_to(HEADER, KEY)
    assert not commits_to(HEADER, OTHER_KEY)


@CIPHERS
def test_what_was_sealed_opens(cipher: Cipher):
    stored = sealed(sealer(cipher), DATA, nonce=block_nonce(3), also=b"also")

    assert sealer(cipher).open(memoryview(stored), nonce=block_nonce(3), also=b"also") == DATA


@CIPHERS
@pytest.mark.parametrize(
    "other",
    [
        {"repository_id": "repo-2"},
        {"backup_id": "backup-full-20260101-000001"},
        {"kind": "wal"},
        {"index": 1},
        {"repository_id": "repo-1b", "backup_id": CONTEXT.backup_id[1:]},
    ],
)
def test_a_part_opens_under_no_other_context(cipher: Cipher, other: dict[str, object]):
    stored = sealed(sealer(cipher), DATA, nonce=block_nonce(0))

    with pytest.raises(ValueError, match="another object"):
        sealer(cipher, context=replace(CONTEXT, **other)).open(memoryview(stored), nonce=block_nonce(0))


@CIPHERS
@pytest.mark.parametrize("other", [{"salt": bytes(32)}, {"page_size": 512}, {"codec": Codec.LZ4}, {"commitment": bytes(32)}])
def test_a_part_opens_under_no_other_header(cipher: Cipher, other: dict[str, object]):
    stored = sealed(sealer(cipher), DATA, nonce=block_nonce(0))

    with pytest.raises(ValueError, match="another object"):
        sealer(cipher, **other).open(memoryview(stored), nonce=block_nonce(0))


@CIPHERS
@pytest.mark.parametrize(("nonce", "also"), [(block_nonce(1), b""), (INDEX_NONCE, b""), (block_nonce(0), b"x")])
def test_a_part_opens_in_no_other_place(cipher: Cipher, nonce: bytes, also: bytes):
    stored = sealed(sealer(cipher), DATA, nonce=block_nonce(0))

    with pytest.raises(ValueError, match="another object"):
        sealer(cipher).open(memoryview(stored), nonce=nonce, also=also)


@CIPHERS
def test_a_part_shorter_than_its_tag_is_refused(cipher: Cipher):
    with pytest.raises(ValueError, match="shorter than its tag"):
        sealer(cipher).open(memoryview(bytes(15)), nonce=block_nonce(0))


def test_no_nonce_comes_twice():
    nonces = {INDEX_NONCE, *(block_nonce(number) for number in (*range(1000), 2**32, 2**64 - 1))}

    assert len(nonces) == 1003


def test_the_same_block_of_two_objects_has_another_key():
    one = sealed(sealer(Cipher.AES_256_GCM), DATA, nonce=block_nonce(0))
    two = sealed(sealer(Cipher.AES_256_GCM, context=replace(CONTEXT, index=1)), DATA, nonce=block_nonce(0))

    assert one[: len(DATA)] != two[: len(DATA)]


@pytest.mark.parametrize("key", [None, KEY[:16]])
def test_sealing_without_a_whole_key_is_misuse(key: bytes | None):
    with pytest.raises(RuntimeError, match="32 bytes"):
        Sealer(HEADER, CONTEXT, key)


def test_contexts_are_told_apart_however_their_texts_are_cut():
    one = ObjectContext(repository_id="ab", backup_id="c", kind="chunk", index=0)
    two = ObjectContext(repository_id="a", backup_id="bc", kind="chunk", index=0)

    assert one.encode() != two.encode()
