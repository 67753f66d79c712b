"""Documents: what is written reads back, and nothing else reads at all."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest

from continuum_tasks.errors import ObjectDamaged
from continuum_tasks.model import Attestation, BackupId, Level, Manifest
from continuum_tasks.repository.documents import Signature, decode_document, decode_value, encode_document, from_json, to_json
from tests.support.manifests import manifest

NAME = "manifests/main/x.json"


def sign(data: bytes) -> Signature:
    return Signature(key_id="k", value=f"{len(data)}:ab")


def read(data: bytes, *, kind: str = "manifest") -> Manifest:
    return decode_value(Manifest, decode_document(kind, data, name=NAME), name=NAME)


def refused(data: bytes, text: str, *, kind: str = "manifest") -> None:
    with pytest.raises(ObjectDamaged, match=rf"object {re.escape(NAME)}: damaged: {text}") as info:
        read(data, kind=kind)
    assert info.value.hint


def altered(data: bytes, old: str, new: str) -> bytes:
    text = data.decode()
    assert old in text
    return text.replace(old, new).encode()


def test_a_manifest_reads_back_as_it_was() -> None:
    for one in (manifest(), manifest(strategy="incremental"), replace(manifest(), wrapped_key=None)):
        assert read(encode_document("manifest", one, sign=sign)) == one


def test_a_verdict_reads_back_as_it_was() -> None:
    verdict = Attestation(
        backup_id=manifest().backup.id,
        level=Level.RESTORE,
        passed=True,
        at=datetime(2026, 1, 2, tzinfo=UTC),
        duration_seconds=2.0,
        host="h1",
        findings=("näive \N{SNOWMAN} \udc80",),
        row_counts=(("t", 3), ("w", 0)),
    )
    document = decode_document("attestation", encode_document("attestation", verdict, sign=None), name=NAME)
    assert decode_value(Attestation, document, name=NAME) == verdict
    assert document.signature is None


def test_the_same_value_is_the_same_bytes_and_plain_ascii() -> None:
    data = encode_document("manifest", manifest(), sign=None)
    assert data == encode_document("manifest", manifest(), sign=None)
    assert data.isascii() and b"\n" not in data and b": " not in data


def test_the_signature_covers_format_kind_and_value() -> None:
    seen: list[bytes] = []

    def note(data: bytes) -> Signature:
        seen.append(data)
        return sign(data)

    document = decode_document("manifest", encode_document("manifest", manifest(), sign=note), name=NAME)
    assert document.signed_bytes == seen[0]
    assert json.loads(seen[0]).keys() == {"format", "kind", "value"}


def test_a_bit_flipped_anywhere_is_noticed_without_a_key() -> None:
    good = encode_document("manifest", manifest(), sign=sign)
    rng = Random(1)
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        with pytest.raises(ObjectDamaged, match=re.escape(NAME)):
            read(bytes(bad))


@pytest.mark.parametrize("at", [0, 1, 100, -1])
def test_a_document_that_was_cut_or_extended_is_noticed(at: int) -> None:
    good = encode_document("manifest", manifest(), sign=sign)
    for bad in (good[:at], good + b" ", good + good, b" " + good):
        with pytest.raises(ObjectDamaged, match=re.escape(NAME)):
            read(bad)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"body": NaN}'])
def test_what_is_no_document_of_ours_is_refused_by_its_name(data: bytes) -> None:
    refused(data, "")


def test_a_document_of_another_kind_or_format_is_told() -> None:
    data = encode_document("attestation", manifest(), sign=None)
    refused(data, "a 'attestation' where a 'manifest' belongs")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool_version", 3),
        ("tool_version", None),
        ("objects", {}),
        ("objects", [{"key": "x"}]),
        ("source", []),
        ("backup", None),
    ],
)
def test_a_field_of_another_type_is_refused(field: str, value: object) -> None:
    body = {**to_json(manifest()), field: value}
    with pytest.raises((ValueError, TypeError, KeyError)):
        from_json(Manifest, body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../../etc/passwd"),
        ("n_pages", "3"),
        ("n_pages", True),
        ("n_pages", 3.0),
        ("strategy", "hourly"),
        ("created_at", "2026-01-01T00:00:00"),
        ("created_at", 5),
        ("created_at", "0001-01-01T00:00:00+23:59"),
        ("created_at", "9999-12-31T23:59:59-23:59"),
        ("created_at", "1999-12-31T23:59:59+00:00"),
        ("created_at", "9000-01-01T00:00:00+00:00"),
        ("suspect_reasons", "text"),
        ("suspect_reasons", [1]),
    ],
)
def test_a_field_of_the_backup_that_is_not_what_it_should_be_is_refused(field: str, value: object) -> None:
    body = to_json(manifest())
    body["backup"][field] = value
    with pytest.raises((ValueError, TypeError)):
        from_json(Manifest, body)


def test_times_keep_their_instant_whatever_their_zone() -> None:
    at = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5)))
    assert from_json(datetime, to_json(at)) == at


def test_the_first_and_the_last_time_there_is_are_kept() -> None:
    for text in ("2000-01-01T00:00:00+00:00", "8999-12-31T23:59:59+00:00"):
        assert from_json(datetime, text).astimezone(UTC).isoformat() == text


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, -(10**400), 1e300, "1", True, None])
def test_a_duration_that_no_clock_measures_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_json(float, value)


def test_ids_come_back_as_ids() -> None:
    found = from_json(Manifest, to_json(manifest(strategy="incremental")))
    assert isinstance(found.backup.id, BackupId) and isinstance(found.backup.parent_id, BackupId)
