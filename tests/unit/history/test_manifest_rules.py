"""What no manifest may say, whoever signed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from continuum_tasks.errors import ObjectDamaged
from continuum_tasks.history.manifest_rules import check_manifest, manifest_key
from continuum_tasks.model import Cipher, Codec, Manifest
from tests.support.manifests import manifest, unencrypted

PREFIX = "layers/main/backup-full-20261101-120000/backup-full-20261101-120000/"
Change = Callable[[Manifest], Manifest]


def backup(**fields: Any) -> Change:
    return lambda one: replace(one, backup=replace(one.backup, **fields))


def source(**fields: Any) -> Change:
    return lambda one: replace(one, source=replace(one.source, **fields))


def stored(**fields: Any) -> Change:
    return lambda one: replace(one, objects=(replace(one.objects[0], **fields),))


def check(one: Manifest) -> None:
    check_manifest(one, manifest_key(one.backup.database, one.backup.id))


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one,
        unencrypted,
        lambda one: replace(one, objects=()),
        backup(page_size=65536, n_pages=2**32 - 1, original_size_bytes=65536 * (2**32 - 1)),
        backup(page_size=512, n_pages=1, original_size_bytes=512),
        backup(layer_size_bytes=0, stored_size_bytes=0, codec=Codec.NONE),
        source(mode=0o775, uid=2**32 - 2, gid=0),
        source(mode=0),
        stored(key=f"{PREFIX}1234567-0123456789abcdef.chunk"),
        stored(size_bytes=2, index_offset=1, index_bytes=1),
    ],
)
def test_what_a_backup_can_be_is_let_through(change: Change) -> None:
    check(change(manifest()))
    check(manifest(strategy="incremental", n=1))


WRONG: list[tuple[Change, str]] = [
    (backup(cipher=Cipher.NONE), "says none but its key says otherwise"),
    (backup(key_id="q"), "its key says otherwise"),
    (lambda one: replace(unencrypted(one), backup=replace(unencrypted(one).backup, key_id="k")), "its key says otherwise"),
    (lambda one: replace(one, wrapped_key=None), "its key says otherwise"),
    (lambda one: manifest(database="a/b"), "its database has a name that is not allowed"),
    *((backup(page_size=n, original_size_bytes=3 * n), "page size") for n in (-4096, 0, 1, 256, 4095, 131072)),
    *((backup(n_pages=n, original_size_bytes=4096 * n), "pages are not a number") for n in (-1, 0, 2**32)),
    (backup(original_size_bytes=1 << 60), "are not 3 pages of 4096 bytes"),
    (backup(layer_size_bytes=-1), "a size is below zero"),
    (backup(stored_size_bytes=-1), "a size is below zero"),
    *((backup(root=root), "its root is not a SHA-256") for root in ("", "ab" * 31, "AB" * 32, "ab" * 32 + "\n")),
    *((source(mode=mode), "mode") for mode in (-1, 0o1000, 0o4755, 0o642, 0o777)),
    *((source(uid=n), "owner") for n in (-1, 2**32 - 1)),
    *((source(gid=n), "owner") for n in (-1, 2**32 - 1)),
    (lambda one: replace(one, objects=one.objects * 2), "names an object twice"),
    *(
        (stored(key=key), "is not an object of this backup")
        for key in (
            "repository.json",
            "manifests/main/backup-full-20261101-120000.json",
            "layers/main/backup-full-20261101-120000/backup-full-20261101-120001/000000-00.chunk",
            "layers/other/backup-full-20261101-120000/backup-full-20261101-120000/000000-00.chunk",
            PREFIX,
            f"{PREFIX}..",
            f"{PREFIX}../x/000000-00.chunk",
            f"{PREFIX}000000-00.chunk\n",
            f"{PREFIX}{'0' * 500}-00.chunk",
            f"{PREFIX}{PREFIX}000000-00.chunk",
            "000000-00.chunk",
        )
    ),
    (stored(size_bytes=0, index_offset=1, index_bytes=-1), "no bytes or no pages"),
    (stored(n_pages=0), "no bytes or no pages"),
    (stored(n_pages=-3), "no bytes or no pages"),
    (stored(index_offset=0, index_bytes=1000), "has its index from byte 0"),
    (stored(index_offset=-1, index_bytes=1001), "has its index from byte -1"),
    (stored(index_bytes=99), "has its index from byte 900, 99 bytes of 1000"),
    (stored(index_bytes=101), "has its index"),
    (stored(index_offset=1000, index_bytes=0), "has its index"),
    (stored(index_offset=2000, index_bytes=-1000), "has its index"),
    (stored(sha256="cd" * 33), "has no SHA-256"),
    (stored(sha256="../" * 8), "has no SHA-256"),
]


@pytest.mark.parametrize(("change", "text"), WRONG)
def test_what_no_backup_can_be_is_refused_by_the_objects_name(change: Change, text: str) -> None:
    one = change(manifest())
    with pytest.raises(ObjectDamaged) as info:
        check(one)
    assert info.value.message.startswith(f"object {manifest_key(one.backup.database, one.backup.id)}: ")
    assert text in info.value.message and info.value.hint


def test_a_manifest_under_the_key_of_another_is_refused() -> None:
    with pytest.raises(ObjectDamaged, match="holds the manifest of backup-full-20261101-120000"):
        check_manifest(manifest(), manifest_key("main", manifest(n=1).backup.id))
