from __future__ import annotations

import hashlib

from continuum_tasks.layer.format import ZERO_DIGEST, digest_root, digests_of, page_digest


def test_a_page_digest_is_the_published_xxh3_128_of_the_page_big_endian():
    assert page_digest(b"").hex() == "99aa06d3014798d86001c324468d497f"  # the reference implementation's own test vector


def test_digests_of_are_the_page_digests_one_after_the_other():
    pages = bytes(range(256)) * 8

    assert digests_of(memoryview(pages), 512) == b"".join(page_digest(pages[at : at + 512]) for at in range(0, 2048, 512))


def test_the_root_is_the_sha256_of_the_digests_however_they_are_cut():
    digests = bytes(range(160)) + ZERO_DIGEST

    assert digest_root([digests]) == digest_root([digests[:5], memoryview(digests)[5:]]) == hashlib.sha256(digests).hexdigest()
