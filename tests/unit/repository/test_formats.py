"""Documents of other versions: unknown fields are passed over and kept, a newer format is refused with that reason."""

from __future__ import annotations

import copy
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.errors import IntegrityError, NewerFormat, ObjectDamaged
from continuum_tasks.keyring import generate_key, open_keyring
from continuum_tasks.model import (
    Acceptance,
    Cipher,
    DrillRecord,
    Hold,
    Manifest,
    PhaseCost,
    Position,
    Timeline,
    TimelineId,
)
from continuum_tasks.repository.documents import (
    FORMATS,
    decode_document,
    decode_value,
    encode_document,
    to_json,
    unknown_fields,
)
from continuum_tasks.repository.repository import IDENTITY_KEY, Identity, Repository
from continuum_tasks.repository.timelines import put_timeline, read_timelines, split_timelines, timelines
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.verify.verify import look_beside
from tests.support.formats import AT, as_format, canonical, sealed, sign
from tests.support.manifests import BEGUN_AT, REPOSITORY_ID, manifest, unencrypted, verdict

NAME = "some/object.json"
ONE = manifest()
LINE = TimelineId("timeline-20261101-120000-00000001")
POSITION = Position(timeline=LINE, commit=3, settled=4)
COST = PhaseCost(phase="read", seconds=1.5, n_bytes=3)
VALUES: dict[str, Any] = {
    "repository": Identity(repository_id=REPOSITORY_ID, created_at=AT),
    "manifest": replace(ONE, backup=replace(ONE.backup, position=POSITION), row_counts=(("t", 3),), profile=(COST,)),
    "timeline": Timeline(
        **{"id": LINE, "database": "main", "host": "h1", "repository_id": REPOSITORY_ID, "created_at": AT, "page_size": 512},
        **{"cipher": Cipher.AES_256_GCM, "wrapped_key": ONE.wrapped_key, "previous": None, "reason": "capture begins"},
    ),
    "attestation": replace(verdict(ONE), findings=("a",), row_counts=(("t", 3),)),
    "hold": Hold(backup_id=ONE.backup.id, reason="r", by="b", at=AT),
    "acceptance": Acceptance(backup_id=ONE.backup.id, reason="r", by="b", at=AT),
    "drill": DrillRecord(
        **{"backup_id": ONE.backup.id, "database": "main", "passed": True, "at": AT, "rto_seconds": 2.0, "phases": (COST,)},
        **{"findings": (), "host": "h1"},
    ),
}
KINDS = pytest.mark.parametrize("kind", sorted(FORMATS))
UNKNOWN = st.dictionaries(
    st.text(min_size=1, max_size=8).map(lambda text: f"later_{text}"),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2)
    ),
    min_size=1,
    max_size=3,
)


def objects_in(value: Any) -> list[dict[str, Any]]:
    """Return every JSON object within a value, itself first."""
    if isinstance(value, dict):
        return [value, *(found for inner in value.values() for found in objects_in(inner))]
    return [found for inner in value for found in objects_in(inner)] if isinstance(value, list) else []


def test_every_kind_of_document_has_a_value_to_be_tried_with() -> None:
    assert VALUES.keys() == FORMATS.keys()


@KINDS
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_fields_that_are_not_known_change_nothing_wherever_they_are(kind: str, data: st.DataObject) -> None:
    value = VALUES[kind]
    envelope = json.loads(encode_document(kind, value, sign=sign))
    for place in objects_in(envelope):
        if data.draw(st.booleans()):
            place.update(data.draw(UNKNOWN))

    document = decode_document(kind, sealed(envelope), name=NAME)

    assert decode_value(type(value), document, name=NAME) == value
    assert document.signed_bytes == canonical(envelope["body"])  # whoever signed them signed the unknown ones too


@KINDS
def test_a_field_that_is_required_stays_required(kind: str) -> None:
    value = VALUES[kind]
    envelope = json.loads(encode_document(kind, value, sign=sign))
    first = sorted(envelope["body"]["value"])[0]
    assert first in ("repository_id", "backup", "cipher", "at", "backup_id", "created_at")
    del envelope["body"]["value"][first]
    with pytest.raises(ObjectDamaged, match="fields"):
        decode_value(type(value), decode_document(kind, sealed(envelope), name=NAME), name=NAME)


@KINDS
def test_a_newer_format_is_refused_with_that_reason(kind: str) -> None:
    newer = FORMATS[kind] + 1
    with pytest.raises(NewerFormat) as caught:
        decode_document(kind, as_format(encode_document(kind, VALUES[kind], sign=None), newer), name=NAME)
    known = FORMATS[kind]
    assert caught.value.message == f"object {NAME}: written by a newer version ({newer}); this version reads up to {known}"
    assert "upgrade" in caught.value.hint and caught.value.exit_code == IntegrityError.exit_code


@pytest.mark.parametrize("number", [0, -1, True, "2", 2.0, None, [2]])
def test_a_format_that_no_version_ever_had_is_damage(number: object) -> None:
    with pytest.raises(ObjectDamaged, match="format"):
        decode_document("manifest", as_format(encode_document("manifest", ONE, sign=None), number), name=NAME)


def test_a_bit_flipped_in_the_format_is_damage_and_no_newer_version() -> None:
    data = encode_document("manifest", ONE, sign=None)
    assert data.count(b'"format":1') == 1
    with pytest.raises(ObjectDamaged, match="SHA-256"):
        decode_document("manifest", data.replace(b'"format":1', b'"format":3'), name=NAME)


def test_unknown_fields_are_named_with_their_way() -> None:
    body = to_json(VALUES["manifest"])
    assert list(unknown_fields(Manifest, body)) == []
    body["later"], body["backup"]["position"]["later"] = 1, 2
    assert sorted(unknown_fields(Manifest, body)) == ["backup.position.later", "later"]


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def repository(tmp_path: Path, storage: MemoryStorage) -> Repository:
    generate_key(tmp_path, "k", random_bytes=secrets.token_bytes, now=BEGUN_AT)
    return Repository(storage, "here", keyring=open_keyring(tmp_path), accept_unsigned=False)


def key_of(one: Manifest) -> str:
    return f"manifests/{one.backup.database}/{one.backup.id}.json"


def make_newer(storage: MemoryStorage, key: str) -> bytes:
    data = as_format(storage.get(key), 2)
    storage.put(key, data)
    return data


def extend(storage: MemoryStorage, repository: Repository, key: str) -> dict[str, Any]:
    """Give a stored manifest fields of a later version, signed as that would do it; returns its body."""
    envelope = json.loads(storage.get(key))
    value = envelope["body"]["value"]
    value["later"], value["backup"]["later"], value["wrapped_key"]["later"] = {"deep": [1]}, "b", None
    signer = repository._signer("k")
    envelope["signature"] = to_json(signer(canonical(envelope["body"])))
    storage.put(key, sealed(envelope))
    return copy.deepcopy(value)


def test_a_signed_manifest_with_unknown_fields_is_read_and_a_rewritten_one_keeps_them(
    repository: Repository, storage: MemoryStorage
) -> None:
    made = repository.put_manifest(ONE)
    before = extend(storage, repository, key_of(ONE))
    read = repository.read_manifest("main", made.backup.id)
    assert read == made

    rolled = replace(read, backup=replace(read.backup, rolled_at=AT, stored_size_bytes=7), tool_version="9")
    repository.replace_manifest(rolled)

    after = json.loads(storage.get(key_of(ONE)))["body"]["value"]
    assert (after["later"], after["backup"]["later"], after["wrapped_key"]["later"]) == ({"deep": [1]}, "b", None)
    assert before["later"] == after["later"]
    assert repository.read_manifest("main", made.backup.id) == rolled  # and the signature holds over all of it


def test_an_unknown_field_that_nobody_signed_is_noticed(repository: Repository, storage: MemoryStorage) -> None:
    made = repository.put_manifest(ONE)
    envelope = json.loads(storage.get(key_of(ONE)))
    envelope["body"]["value"]["later"] = 1
    storage.put(key_of(ONE), sealed(envelope))
    with pytest.raises(ObjectDamaged, match="its signature does not hold"):
        repository.read_manifest("main", made.backup.id)


def test_a_manifest_of_a_newer_version_is_never_rewritten(repository: Repository, storage: MemoryStorage) -> None:
    made = repository.put_manifest(ONE)
    data = make_newer(storage, key_of(ONE))
    with pytest.raises(NewerFormat):
        repository.replace_manifest(made)
    assert storage.get(key_of(ONE)) == data


def test_a_backup_of_a_newer_version_is_told_and_the_others_are_as_they_were(
    repository: Repository, storage: MemoryStorage
) -> None:
    full, later = repository.put_manifest(ONE), manifest(n=9)
    repository.put_manifest(later)
    make_newer(storage, key_of(later))
    found = list(repository.manifests())
    assert full in found and len(found) == 2
    (told,) = [one for one in found if isinstance(one, IntegrityError)]
    assert isinstance(told, NewerFormat) and str(later.backup.id) in told.message
    assert repository.read_chain(full.backup.id) == (full,)
    with pytest.raises(NewerFormat, match=r"written by a newer version \(2\); this version reads up to 1"):
        repository.read_chain(later.backup.id)


def test_the_identity_of_a_newer_version_is_never_written_over(repository: Repository, storage: MemoryStorage) -> None:
    proposed = Identity(repository_id=REPOSITORY_ID, created_at=AT)
    repository.ensure_identity(proposed)
    repository.put_manifest(ONE)
    data = make_newer(storage, IDENTITY_KEY)
    with pytest.raises(NewerFormat):
        repository.ensure_identity(proposed)
    assert storage.get(IDENTITY_KEY) == data


def test_a_lost_identity_is_not_made_anew_where_a_newer_version_made_the_backups(
    repository: Repository, storage: MemoryStorage
) -> None:
    repository.put_manifest(ONE)
    make_newer(storage, key_of(ONE))
    with pytest.raises(NewerFormat):
        repository.ensure_identity(Identity(repository_id="another", created_at=AT))
    repository.put_manifest(manifest(n=4))
    assert repository.ensure_identity(Identity(repository_id="another", created_at=AT)).repository_id == REPOSITORY_ID


def test_a_verdict_of_a_newer_version_counts_for_nothing_and_is_not_cleared_away(
    repository: Repository, storage: MemoryStorage
) -> None:
    repository.ensure_identity(Identity(repository_id=REPOSITORY_ID, created_at=AT))
    made = repository.put_manifest(ONE)
    key = repository.put_attestation("main", verdict(ONE), key_id="k")
    make_newer(storage, key)
    ((_, found),) = repository.attestations()
    assert isinstance(found, NewerFormat)
    assert look_beside((made,), repository=repository) == {}


@pytest.mark.parametrize("kind", ["hold", "acceptance", "drill"])
def test_a_record_of_a_newer_version_is_told_beside_the_others(
    repository: Repository, storage: MemoryStorage, kind: str
) -> None:
    put = {"hold": repository.put_hold, "acceptance": repository.put_acceptance}
    read = {"hold": repository.holds, "acceptance": repository.acceptances, "drill": repository.drills}[kind]
    other = manifest(n=5).backup.id
    for one in (VALUES[kind], replace(VALUES[kind], backup_id=other)):
        put[kind]("main", one, key_id="k") if kind in put else repository.put_drill(one, key_id="k")
    first = min(key for key, _ in read())
    make_newer(storage, first)
    found = dict(read())
    assert isinstance(found[first], NewerFormat)
    assert sum(not isinstance(one, IntegrityError) for one in found.values()) == 1


def test_a_timeline_of_a_newer_version_is_told_and_the_others_are_read(repository: Repository, storage: MemoryStorage) -> None:
    plain = replace(VALUES["timeline"], wrapped_key=None, cipher=Cipher.NONE)
    open_one = Repository(storage, "here", keyring=repository._keyring, accept_unsigned=True)
    key = put_timeline(open_one, plain)
    other = replace(plain, id=TimelineId("timeline-20261101-130000-00000002"))
    put_timeline(open_one, other)
    make_newer(storage, key)
    found, newer = split_timelines(open_one, "main")
    assert found == [other] == read_timelines(open_one, "main") and key in newer[0].message
    assert isinstance(dict(timelines(open_one))[key], NewerFormat)


def test_a_manifest_without_a_key_reads_with_unknown_fields_too(storage: MemoryStorage, tmp_path: Path) -> None:
    plain = Repository(storage, "here", keyring=open_keyring(tmp_path), accept_unsigned=True)
    made = plain.put_manifest(unencrypted(ONE))
    envelope = json.loads(storage.get(key_of(ONE)))
    envelope["body"]["value"]["objects"][0]["later"] = envelope["body"]["later"] = envelope["later"] = 1
    storage.put(key_of(ONE), sealed(envelope))
    assert plain.read_manifest("main", made.backup.id) == made
