"""Expiry and roll-forward on real storages: what is listed restores, before, after, and wherever a run is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks import failpoints
from continuum_tasks.config import load_config
from continuum_tasks.errors import BackupNotFound, DatabaseLocked
from continuum_tasks.host import audit
from continuum_tasks.host.jobs import JobState
from continuum_tasks.host.routing import RETENTION_DUE, control_queue
from continuum_tasks.model import BackupId, Level, Manifest
from continuum_tasks.repository import lock
from continuum_tasks.restore import restore
from continuum_tasks.retention import expire, hold
from continuum_tasks.runtime import Runtime, finish, open_runtime
from continuum_tasks.sample.change import change
from continuum_tasks.sample.generate import SampleSpec, generate
from continuum_tasks.sample.oracle import logical_hash
from continuum_tasks.tasks.client import client_app
from continuum_tasks.verify import verify
from tests.support import cli, servers
from tests.support.processes import ROOT, until
from tests.support.servers import S3Server
from tests.support.stack import stack

# Nothing stays but the floors; a chain of three with half of the rows changed each time is worth rolling forward.
BARE = """[retention]
hourly = 0
daily = 0
weekly = 0
monthly = 0
yearly = 0
min_backups = 1
grace_period = never
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A configuration, its database and store, and what each backup held when it was made, by the oracle."""

    root: Path
    held: dict[str, str]

    @property
    def database(self) -> Path:
        return self.root / "memory.db"

    def call(self, *words: str, failpoint: str = "", code: int | None = 0) -> Any:
        """Run one command in a process of its own and return its JSON; `code` None = any."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("CONTINUUM_")}
        environment |= {"CONTINUUM_CONFIG_DIR": str(self.root / "etc"), "CONTINUUM_HOST": "h1", "CONTINUUM_LOCAL": "1"}
        environment |= {"PYTHONPATH": str(ROOT), "CONTINUUM_FAILPOINTS": failpoint}
        done = cli.call("backup", *words, "--format", "json", cwd=ROOT, env=environment)
        assert code is None or done.code == code, (done.code, done.out, done.err)
        return done.json if done.out else done.code

    def back_up(self, strategy: str) -> str:
        made = str(self.call("create", "--strategy", strategy)["backup_id"])
        self.held[made] = logical_hash(self.database).sha256
        return made

    def listed(self) -> list[str]:
        """Return what the storage itself lists, newest first."""
        with self.runtime() as runtime:
            found = [m.backup for m in runtime.repository().manifests() if isinstance(m, Manifest)]
        return [b.id for b in sorted(found, key=lambda b: (b.created_at, b.id), reverse=True)]

    def restores(self, backup_id: str) -> bool:
        """Tell whether a backup comes back as what it was made of, by the oracle."""
        target = self.root / "restored.db"
        target.unlink(missing_ok=True)
        request = restore.RestoreRequest(backup_id=BackupId(backup_id), target=target, overwrite=False, verify=True)
        with self.runtime() as runtime:
            repository, site, fan = runtime.repository(), runtime.site, runtime.fan()
            finish(restore.restore_backup(request, repository=repository, site=site, fan=fan, check_lease=lambda: None))
        return logical_hash(target).sha256 == self.held[backup_id]

    def stored(self) -> list[str]:
        """Return the keys under which anything is stored for a backup."""
        store = self.root / "store"
        kinds = ("manifests", "layers", "attestations", "holds", "drills", "locks", ".probe")
        return sorted(str(p.relative_to(store)) for kind in kinds for p in (store / kind).rglob("*") if p.is_file())

    def age(self) -> None:
        """Make everything in the store two days old, by the storage's own time."""
        for path in (self.root / "store").rglob("*"):
            at = path.stat().st_mtime - 2 * 86_400
            os.utime(path, (at, at))

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        with open_runtime(load_config(self.root / "etc", environment={"CONTINUUM_HOST": "h1"})) as runtime:
            yield runtime


def make(root: Path, *, storage: str = "") -> Host:
    root.mkdir()
    generate(root / "memory.db", SampleSpec(size_bytes=1 << 20))
    words = ("--config-dir", root / "etc", "--yes", "--database", root / "memory.db", "--storage", storage or root / "store")
    cli.call("init", *words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}).ok()
    (root / "etc" / "retention.conf").write_text(BARE)
    return Host(root=root, held={})


def copy(host: Host, root: Path) -> Host:
    shutil.copytree(host.root, root)
    for path in (root / "etc").glob("*.conf"):
        path.write_text(path.read_text().replace(str(host.root), str(root)))
    return Host(root=root, held=dict(host.held))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """An old chain of two, and a chain of four whose last link alone is verified."""
    host = make(tmp_path_factory.mktemp("retention") / "h")
    for n, strategy in enumerate(("full", "incremental", "full", "incremental", "incremental", "incremental")):
        host.back_up(strategy)
        change(host.database, fraction=0.5, seed=n)
    host.call("verify", list(host.held)[-1])
    return host


@pytest.fixture
def host(prepared: Host, tmp_path: Path) -> Host:
    return copy(prepared, tmp_path / "h")


def test_the_old_chain_expires_and_the_new_one_is_rolled_forward(host: Host) -> None:
    last = list(host.held)[-1]
    (done,) = host.call("apply-retention")

    assert (done["n_keep"], done["n_expire"], done["n_deferred"], done["stopped"]) == (1, 5, 0, "")
    assert [rolled["backup_id"] for rolled in done["roll_forward"]] == [last]
    assert host.listed() == [last] and host.restores(last)
    (backup,) = host.call("list")
    assert backup["parent_id"] is None and backup["rolled_at"] and backup["verified"]
    assert backup["layer_size_bytes"] == backup["original_size_bytes"]
    assert all(last in key for key in host.stored())
    (again,) = host.call("apply-retention")
    assert (again["n_expire"], again["roll_forward"], again["freed_bytes"]) == (0, [], 0)


def test_space_is_really_freed_and_the_sum_said_is_the_sum_freed(host: Host) -> None:
    def used() -> int:
        return sum(p.stat().st_size for kind in ("layers",) for p in (host.root / "store" / kind).rglob("*") if p.is_file())

    before = used()
    (planned,) = host.call("apply-retention", "--dry-run")
    (done,) = host.call("apply-retention")
    verdicts = 10_000  # attestations are counted too
    assert 0 <= done["freed_bytes"] - (before - used()) < verdicts
    assert abs(planned["freed_bytes"] - done["freed_bytes"]) < 0.1 * before


def test_the_next_increment_builds_on_a_backup_that_was_rolled_forward(host: Host) -> None:
    last = list(host.held)[-1]
    host.call("apply-retention")
    change(host.database, fraction=0.01, seed=9)
    made = host.back_up("incremental")

    (info, _) = host.call("list")
    assert (info["backup_id"], info["parent_id"]) == (made, last)
    assert host.restores(made) and host.restores(last)
    host.call("verify", made)


def test_a_dry_run_says_why_and_changes_nothing(host: Host) -> None:
    before = host.stored()
    (planned,) = host.call("apply-retention", "--dry-run")

    assert host.stored() == before
    assert planned["dry_run"] and planned["n_expire"] == 5
    assert all(decision["reasons"] for decision in planned["decisions"])
    assert planned["decisions"][0]["reasons"] == ["last verified good chain", "one of the fewest: 1 of 1"]


def test_a_held_backup_stays_until_it_is_released(host: Host) -> None:
    old = list(host.held)[1]
    assert host.call("hold", old, "--reason", "incident  4711")["reason"] == "incident 4711"
    host.call("apply-retention")
    assert old in host.listed() and host.restores(old)
    (planned,) = host.call("apply-retention", "--dry-run", "--aggressive")
    assert ["held: incident 4711"] in [d["reasons"] for d in planned["decisions"]]

    assert host.call("release", old)["was_held"] is True
    assert host.call("release", old)["was_held"] is False
    host.call("apply-retention")
    assert old not in host.listed()
    actions = [line.event.action for line in audit.read_events(host.root / "etc" / "state" / audit.FILE) if line.event]
    assert actions.count("hold") == actions.count("release") == 1
    assert actions.count("expire") == 5 and "roll-forward" in actions and actions[-1] == "apply-retention"


def test_a_backup_that_is_held_while_a_run_is_at_work_stays_with_its_chain(host: Host) -> None:
    first, second = list(host.held)[:2]
    with host.runtime() as runtime:
        repository = runtime.repository()
        policy = expire.policy_of(runtime.config.retention, aggressive=False)
        request = expire.RetentionRequest(database="memory", policy=policy, by="test", pitr_window_seconds=7 * 86_400)
        run = expire.apply_policy(
            request, repository=repository, site=runtime.site, fan=runtime.fan(), check_lease=lambda: None
        )
        assert next(run).phase == "plan"
        assert next(run).phase == "expire"  # the old increment is gone; its full is next
        hold.hold_backup(runtime.catalog.find(first), "wait", by="test", repository=repository, site=runtime.site)
        with pytest.raises(BackupNotFound):
            hold.hold_backup(
                replace(runtime.catalog.find(first), id=BackupId(second)),
                "too late",
                by="test",
                repository=repository,
                site=runtime.site,
            )
        finish(run)
    assert second not in host.listed() and host.restores(first)


@pytest.mark.parametrize("point", failpoints.EXPIRE + failpoints.SYNTHESIZE)
def test_whatever_is_listed_after_a_kill_restores_and_the_next_run_ends_the_work(host: Host, point: str) -> None:
    last = list(host.held)[-1]
    assert host.call("apply-retention", failpoint=f"{point}=kill", code=-signal.SIGKILL) == -signal.SIGKILL

    listed = host.listed()
    assert last in listed
    assert all(host.restores(backup_id) for backup_id in listed)
    host.call("apply-retention")
    assert host.listed() == [last] and host.restores(last)
    assert host.call("list")[0]["parent_id"] is None

    host.call("verify", last)
    host.age()
    host.call("apply-retention")
    assert all(last in key for key in host.stored())
    with host.runtime() as runtime:
        named = runtime.repository().read_manifest("memory", BackupId(last)).objects
    assert [key for key in host.stored() if key.startswith("layers/")] == sorted(stored.key for stored in named)


def test_young_objects_that_no_manifest_names_are_left_alone(host: Host) -> None:
    store = host.root / "store" / "layers" / "memory" / "backup-full-20200101-000000" / "backup-full-20200101-000000"
    store.mkdir(parents=True)
    for name in ("000000-00000000.chunk", "000001-00000000.chunk"):
        (store / name).write_bytes(b"x" * 100)
    os.utime(store / "000000-00000000.chunk", (0, 0))
    (done,) = host.call("apply-retention")

    assert (done["n_orphans"], done["orphan_bytes"]) == (1, 100)
    assert [p.name for p in store.iterdir()] == ["000001-00000000.chunk"]


def test_a_clock_that_jumped_stops_expiry(host: Host) -> None:
    before = host.stored()
    with host.runtime() as runtime:
        now = runtime.site.clock.now
        clock = replace(runtime.site.clock, now=lambda: now() + timedelta(days=3650))
        policy = expire.policy_of(runtime.config.retention, aggressive=True)
        done = finish(
            expire.apply_policy(
                expire.RetentionRequest(database="memory", policy=policy, by="test", pitr_window_seconds=7 * 86_400),
                repository=runtime.repository(),
                site=replace(runtime.site, clock=clock),
                fan=runtime.fan(),
                check_lease=lambda: None,
            )
        )
    assert "3650 days" in done.stopped and done.of(expire.KeepDecision.EXPIRE) == ()
    assert host.stored() == before


def test_a_damaged_manifest_stops_expiry_and_is_named(host: Host) -> None:
    damaged = host.root / "store" / "manifests" / "memory" / f"{list(host.held)[2]}.json"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    before = host.stored()
    host.age()
    (done,) = host.call("apply-retention", code=1)

    assert damaged.name in done["stopped"] and host.stored() == before


def test_a_damaged_layer_stops_its_roll_forward_and_nothing_it_needs_expires(host: Host) -> None:
    last = list(host.held)[-1]
    base = list(host.held)[2]
    chunk = next((host.root / "store" / "layers" / "memory" / base / base).glob("*.chunk"))
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)

    (failed,) = host.call("apply-retention", code=7)
    assert failed["error"]["name"] == "ObjectDamaged" and chunk.name in failed["error"]["message"]
    assert set(host.listed()) == set(list(host.held)[2:]) and last in host.listed()


def test_a_run_while_another_one_works_on_the_database_is_refused(host: Host) -> None:
    with host.runtime() as runtime, lock.hold_lock("memory", runtime.repository().storage, runtime.site.contender()):
        (refused,) = host.call("apply-retention", code=10)
    assert refused["error"]["name"] == "DatabaseLocked"
    assert len(host.listed()) == 6


def test_a_chain_that_is_rolled_forward_while_it_is_verified_is_not_marked_as_failed(host: Host) -> None:
    last = BackupId(list(host.held)[-1])
    with host.runtime() as runtime:
        looked = verify.VerifyRequest(backup_id=last, level=Level.RESTORE)
        run = verify.verify_backup_chain(looked, repository=runtime.repository(), site=runtime.site, fan=runtime.fan())
        while next(run).phase != "fetch":
            pass
        host.call("apply-retention")
        with pytest.raises(DatabaseLocked, match="rolled forward while it was read"):
            finish(run)
    assert host.call("list")[0]["failed_at"] is None and host.call("list")[0]["verified"]


def test_the_cap_is_kept_and_later_runs_go_on(host: Host) -> None:
    path = host.root / "etc" / "retention.conf"
    path.write_text(f"{path.read_text()}max_expire_per_run = 2\n")
    counts = []
    for _ in range(4):
        (done,) = host.call("apply-retention")
        counts.append((done["n_expire"], done["n_deferred"]))
        assert all(host.restores(backup_id) for backup_id in host.listed())
    assert counts == [(2, 3), (2, 1), (1, 0), (0, 0)]


def test_names_that_are_not_declared_are_refused_and_what_others_back_up_is_left_alone(host: Host) -> None:
    host.call("apply-retention", "--database", "other", code=2)
    host.call("apply-retention", "--storage", "other", code=2)
    shutil.copytree(host.root / "store" / "layers" / "memory", host.root / "store" / "layers" / "foreign")
    host.age()
    host.call("apply-retention")
    assert len([key for key in host.stored() if key.startswith("layers/foreign/")]) == 6


@pytest.mark.parametrize("serve", [servers.ministack, servers.rclone])
def test_a_chain_on_a_real_s3_server_is_expired_and_rolled_forward(
    serve: Callable[[Path], AbstractContextManager[S3Server]], tmp_path: Path
) -> None:
    (tmp_path / "s3").mkdir()
    with serve(tmp_path / "s3") as server:
        credentials = server.write_credentials(tmp_path)
        host = make(tmp_path / "h", storage=f"{server.url('x')}&credentials_file={credentials}")
        for n, strategy in enumerate(("full", "full", "incremental", "incremental")):
            host.back_up(strategy)
            change(host.database, fraction=0.5, seed=n)
        last = list(host.held)[-1]
        host.call("verify", last)
        (done,) = host.call("apply-retention")

        assert (done["n_keep"], done["n_expire"], len(done["roll_forward"])) == (1, 3, 1)
        assert [b["backup_id"] for b in host.call("list", "--storage", "s3")] == [last]
        assert host.restores(last)


def test_workers_apply_it_when_asked_and_once_a_day_by_the_timetable(host: Host) -> None:
    config = load_config(host.root / "etc", environment={"CONTINUUM_HOST": "h1"})
    backup_conf = host.root / "etc" / "backup.conf"
    text = backup_conf.read_text()
    backup_conf.write_text(
        text.replace("full_every = 7d", "full_every = never")
        .replace("incremental_every = 4m", "incremental_every = never")
        .replace("verify_every = 1d", "verify_every = never")
        .replace("\nhost =", "\nhost = h1")
    )
    config = load_config(host.root / "etc", environment={})
    with stack(config), host.runtime() as runtime:
        app = client_app(config)
        for _ in range(2):
            app.send_task(RETENTION_DUE, queue=control_queue("h1"))

        def ended() -> bool:
            return [j.state for j in rows()] == [JobState.DONE]

        def rows() -> list[Any]:
            found = runtime.jobs._jobs("WHERE kind='apply_retention'")
            return list(found)

        assert until(ended, seconds=180), [(j.id, j.state, j.error) for j in rows()]
        app.close()
        (done,) = host.call("apply-retention", "--no-local")
    assert done["n_keep"] == 1 and done["n_expire"] == 0
    assert host.listed() == [list(host.held)[-1]] and host.restores(host.listed()[0])
