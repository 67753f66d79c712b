"""What a newer version wrote is neither good nor bad: no verdict is stored about it, and what it holds is held."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import xxhash

from continuum_tasks.errors import NewerFormat, ObjectDamaged
from continuum_tasks.host.reindex import reindex_storage
from continuum_tasks.model import BackupId, Hold
from continuum_tasks.retention import expire
from tests.support import sandbox
from tests.support.formats import AT, as_format, sealed
from tests.support.sandbox import Sandbox, back_up, make, objects, restore_to, verified


@pytest.fixture
def host(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "h1", sandbox.Options(encryption="none"))
    with closing(sqlite3.connect(made.database)) as connection:
        connection.executescript("CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    return made


def as_newer(chunk: Path) -> None:
    data = chunk.read_bytes()
    start = data[:8] + b"\x02" + data[9:80]
    chunk.write_bytes(start + xxhash.xxh3_128_digest(start) + data[96:])


def vouch_for(host: Sandbox, chunk: Path) -> None:
    """Let the manifest name the bytes of a chunk as they are now, as the newer version's would."""
    (manifest,) = objects(host, "manifests/main/").values()
    envelope = json.loads(manifest.read_bytes())
    envelope["body"]["value"]["objects"][0]["sha256"] = hashlib.sha256(chunk.read_bytes()).hexdigest()
    manifest.write_bytes(sealed(envelope))


def test_a_chunk_of_a_newer_version_is_told_and_no_verdict_is_stored(host: Sandbox, tmp_path: Path) -> None:
    made = back_up(host)
    (chunk,) = objects(host, "layers/").values()
    as_newer(chunk)
    vouch_for(host, chunk)
    with pytest.raises(NewerFormat, match=r"written by a newer version \(2\); this version reads up to 1"):
        verified(host, made.id)
    with pytest.raises(NewerFormat):
        restore_to(host, made.id, tmp_path / "r.db")
    assert objects(host, "attestations/") == {} and not (tmp_path / "r.db").exists()


def test_a_chunk_that_only_says_a_newer_version_and_is_not_what_the_manifest_names_has_failed(host: Sandbox) -> None:
    made = back_up(host)
    (chunk,) = objects(host, "layers/").values()
    as_newer(chunk)
    with pytest.raises(ObjectDamaged, match="SHA-256"):
        verified(host, made.id)
    ((attested, _),) = [objects(host, "attestations/").popitem()]
    assert "/restore-" in attested
    (backup,) = sandbox.listed(host)
    assert backup.failed_at is not None


def test_a_backup_whose_manifest_a_newer_version_wrote_is_not_built_on_and_never_good(host: Sandbox, tmp_path: Path) -> None:
    first, newer = back_up(host), back_up(host)
    (manifest,) = objects(host, f"manifests/main/{newer.id}").values()
    manifest.write_bytes(as_format(manifest.read_bytes(), 2))
    with host.runtime() as runtime:
        found = reindex_storage(runtime.repository(), site=runtime.site)
        assert [backup.id for backup in runtime.catalog.backups()] == [first.id]
    assert len(found.damaged) == 1 and str(newer.id) in found.damaged[0]
    assert "written by a newer version (2); this version reads up to 1" in found.damaged[0]
    with pytest.raises(NewerFormat):
        restore_to(host, newer.id, tmp_path / "r.db")
    with pytest.raises(NewerFormat):
        verified(host, newer.id)
    assert objects(host, "attestations/") == {}
    assert back_up(host, "incremental").parent_id == first.id
    restore_to(host, first.id, tmp_path / "r.db")


def test_a_hold_of_a_newer_version_holds_what_its_name_says() -> None:
    one, other = (BackupId(f"backup-full-20261101-12000{n}") for n in (1, 2))
    newer, damaged = NewerFormat("newer"), ObjectDamaged("damaged")
    hold = Hold(backup_id=other, reason="r", by="b", at=AT)
    assert expire._held([(f"holds/main/{one}.json", newer), (f"holds/main/{other}.json", hold)]) == {one, other}
    assert expire._held([("holds/main/x.json", newer)]) == set()
    with pytest.raises(ObjectDamaged):
        expire._held([(f"holds/main/{one}.json", damaged)])


def test_a_document_of_a_newer_version_about_another_database_stops_no_retention(host: Sandbox) -> None:
    back_up(host)
    path = host.store / "holds" / "other" / "backup-full-20261101-120001-other.json"
    path.parent.mkdir(parents=True)
    (manifest,) = objects(host, "manifests/main/").values()
    envelope = json.loads(manifest.read_bytes())
    envelope["body"]["kind"] = "hold"
    path.write_bytes(as_format(json.dumps(envelope).encode(), 2))
    with host.runtime() as runtime:
        policy = expire.policy_of(runtime.config.retention, aggressive=False)
        request = expire.RetentionRequest(database="main", policy=policy, by="test", pitr_window_seconds=3600)
        done = sandbox.finish(
            expire.apply_policy(
                request, repository=runtime.repository(), site=runtime.site, fan=runtime.fan(), check_lease=lambda: None
            )
        )
    assert done.stopped == ""
