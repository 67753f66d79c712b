"""Scenario 3: the first machine is gone, all of it but the copy of the key; a new one restores from the bucket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from continuum_tasks.sample.generate import SampleSpec, generate
from continuum_tasks.sample.oracle import LogicalHash, logical_hash
from tests.runbook import machine as machines
from tests.runbook.conftest import install, settle
from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine, ask
from tests.support import servers
from tests.support.servers import S3Server

SCENARIO = "Scenario 3"
KEY = "backup-key-v1.key"
BUCKET_OF_THE_TEXT = "s3://continuum-backups/memory?region=us-west-2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with servers.ministack(tmp_path_factory.mktemp("s3"), bucket="continuum-backups") as running:
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What is left of the first machine: a copy of the key, and what its database was."""

    key: Path
    newest: str
    verified: str
    states: dict[str, LogicalHash]


@pytest.fixture(scope="module")
def lost(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Lost:
    """Run a first machine that backs up to the bucket, and lose it."""
    place = tmp_path_factory.mktemp("first")
    states = {}
    with machines.running(place / "machine", **server.environ) as first:
        generate(first.database, SampleSpec(size_bytes=2 << 20))
        install(first, "--storage", server.url("memory"))
        ask(first, "start", "continuum-backup")
        ask(first, "start", "continuum")
        first.create("full")
        ask(first, "stop", "continuum")
        verified = first.create("incremental")
        states[verified] = logical_hash(first.database)
        first.run("backup", "verify", verified)
        ask(first, "start", "continuum")
        ask(first, "stop", "continuum")
        newest = first.create("incremental")
        states[newest] = logical_hash(first.database)
        shutil.copy(first.path("/etc/continuum/keys") / KEY, place / KEY)
    shutil.rmtree(place / "machine")
    return Lost(key=place / KEY, newest=newest, verified=verified, states=states)


@pytest.fixture
def blank(server: S3Server, lost: Lost, tmp_path: Path) -> Iterator[Machine]:
    """A new machine in another region: programs, credentials, and the copy of the key on a stick."""
    with machines.running(tmp_path / "machine", **server.environ) as machine:
        shutil.copy(lost.key, machine.path("/media/usb"))
        yield machine


def test_our_blocks_restore_on_a_blank_machine_with_the_bucket_and_the_key(
    server: S3Server, lost: Lost, blank: Machine
) -> None:
    (recover,) = blocks(OURS, SCENARIO)
    assert BUCKET_OF_THE_TEXT in recover.text
    blank.path("/var/log/continuum/continuum.log").write_text("ready\n")
    with blank.shell() as shell:
        for number, step in recover.steps().items():
            url = f"{server.url('memory').partition('?')[0]}?endpoint={server.endpoint}&region=us-west-2"
            pasted = shell.paste(step.replace(BUCKET_OF_THE_TEXT, url))
            assert pasted.failed == (), pasted
            if number == 2:
                settle(blank)
            if number == 4:
                assert logical_hash(blank.database) == lost.states[lost.newest]
        assert shell.value("BACKUP_ID") == lost.newest
    assert "terraform apply -var=region=us-west-2" in blank.commands()
    assert blank.is_active("continuum") and blank.is_active("continuum-backup")
    newest = blank.json("backup", "list", "--storage", "s3", "--limit", "1")[0]
    assert newest["backup_id"] not in lost.states
    assert (newest["strategy"], newest["status"]) == ("full", "completed")


def test_the_original_blocks_restore_what_their_list_shows(server: S3Server, lost: Lost, blank: Machine) -> None:
    install(blank, "--storage", server.url("memory"), "--key-file", str(blank.path("/media/usb") / KEY))
    (recover,) = blocks(ORIGINAL, SCENARIO)
    blank.path("/var/log/continuum/continuum.log").write_text("ready\n")
    with blank.shell() as shell:
        for number, step in recover.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 2:
                assert lost.verified in pasted.out
                shell.paste(f"BACKUP_ID={lost.verified}")  # the operator reads it off the list
            if number == 3:
                assert logical_hash(blank.database) == lost.states[lost.verified]
    assert blank.is_active("continuum")


def test_without_the_key_nothing_is_restored_and_the_error_names_it(server: S3Server, lost: Lost, blank: Machine) -> None:
    install(blank, "--storage", server.url("memory"))
    refused = blank.run("backup", "restore", lost.newest, "--storage", "s3", "--target", str(blank.database), code=5)
    assert "backup-key-v1" in refused.err and "hint:" in refused.err
    assert not blank.database.exists()
