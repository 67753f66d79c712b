"""Scenario 5: backups fail; the diagnosis names the cause, and each remedy of the text ends it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import psutil

from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine, ask
from tests.support.processes import such

SCENARIO = "Scenario 5"


def test_our_diagnosis_of_a_healthy_host_ends_with_a_backup_and_every_step_of_it(host: Machine) -> None:
    ask(host, "start", "continuum")
    host.create("full")
    (diagnosis,) = [block for block in blocks(OURS, SCENARIO) if block.headings[-1].startswith("Scenario 5")]
    with host.shell() as shell:
        for number, step in diagnosis.steps().items():
            pasted = shell.paste(step)
            assert pasted.failed == (), pasted
            if number == 1:
                assert pasted.out.startswith("Last backup of memory: ")
            if number == 7:
                assert "active (running)" in pasted.out
        assert "debug" in pasted.err and "backup-full-" in pasted.out
    assert len(host.json("backup", "list")) == 2


def test_what_failed_is_in_the_list_and_in_the_log_with_its_reason(host: Machine) -> None:
    ask(host, "stop", "continuum")
    away = host.database.rename(host.database.with_suffix(".away"))
    host.run("backup", "create", "--strategy", "full", code=4)
    with host.shell() as shell:
        (diagnosis,) = [block for block in blocks(OURS, SCENARIO) if block.headings[-1].startswith("Scenario 5")]
        steps = diagnosis.steps()
        looked = shell.paste(steps[1])
        assert [code for code, _ in looked.failed] == [2] and "memory.db" in looked.out
        assert "memory.db" in shell.paste(steps[2]).out
        assert "memory.db" in shell.paste(steps[3]).out
    away.rename(host.database)
    host.create("full")


def test_disk_full_our_blocks_and_the_original_ones_apply_retention(host: Machine) -> None:
    for document in (OURS, ORIGINAL):
        with host.shell() as shell:
            for block in blocks(document, SCENARIO, "Disk Full"):
                assert shell.paste(block.text).failed == ()
    assert "lvextend -L +50G" in " ".join(host.commands())
    assert host.json("backup", "list") != []


def test_permission_denied_is_named_and_our_block_mends_it(host: Machine) -> None:
    store = host.path("/var/backups/continuum")
    for path in store.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    with host.shell() as shell:
        for block in blocks(OURS, SCENARIO, "Permission Denied"):
            pasted = shell.paste(block.text)
            assert pasted.failed == (), pasted
    modes = {oct(path.stat().st_mode & 0o777) for path in store.rglob("*")}
    assert modes == {"0o700", "0o600"}
    host.create("incremental")


def test_permission_denied_the_original_block_leaves_backups_working(host: Machine) -> None:
    (block,) = blocks(ORIGINAL, SCENARIO, "Permission Denied")
    with host.shell() as shell:
        failed = [line for _, line in shell.paste(block.text).failed]
    assert all(line.startswith("chmod 644") for line in failed), "there are no *.backup files here"
    host.run("backup", "verify", host.create("incremental"))
    host.path("/var/backups").chmod(0o700)


def test_a_locked_database_names_its_holder_and_a_restart_of_the_service_ends_it(host: Machine) -> None:
    ask(host, "stop", "continuum")
    host.edit("backup.conf", {"busy_timeout": "1s", "busy_window": "1s", "max_attempts": "1"})
    block = blocks(OURS, SCENARIO, "Database Locked")[0]
    first, rest = block.text.split("# Who has the file open")
    with closing(sqlite3.connect(host.database, isolation_level=None)) as writer, host.shell() as shell:
        writer.execute("BEGIN EXCLUSIVE")
        locked = shell.paste(first)
        assert [code for code, _ in locked.failed] == [4], locked
        assert str(os.getpid()) in locked.err, "the process that holds the lock"
        writer.execute("ROLLBACK")
        assert shell.paste(rest).failed == ()
        assert shell.paste(first).failed == ()
    assert host.is_active("continuum")


def test_a_worker_killed_as_the_original_says_loses_no_backup(host: Machine) -> None:
    stack = psutil.Process(host.services["continuum-backup"].pid)
    worker = such(stack.children(recursive=True), lambda child: "agent" in " ".join(child.cmdline()))[0]
    (block,) = blocks(ORIGINAL, SCENARIO, "Database Locked")
    with host.shell() as shell:
        pasted = shell.paste(block.text.replace("<PID>", str(worker.pid)))
        assert pasted.failed == (), pasted
    gone, _ = psutil.wait_procs([worker], timeout=60)
    assert gone == [worker]
    host.run("backup", "verify", host.create("full"))


def test_the_original_diagnosis_and_network_blocks_run(host: Machine) -> None:
    with host.shell() as shell:
        for block in blocks(ORIGINAL, SCENARIO):
            if block.headings[-1].startswith(("Scenario 5", "Network")):
                pasted = shell.paste(block.text)
                assert pasted.failed == (), pasted
    assert "aws sts get-caller-identity" in host.commands()


def test_our_network_and_anomaly_blocks_run(host: Machine) -> None:
    with host.shell() as shell:
        for block in blocks(OURS, SCENARIO, "Declined"):
            shell.paste(block.text)
        for block in blocks(OURS, SCENARIO, "Network"):
            pasted = shell.paste(block.text)
            assert [line for _, line in pasted.failed] == ["continuum backup test-storage s3"], "no storage of that name here"
