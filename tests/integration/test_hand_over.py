"""Handing work over while its broker comes back."""

from __future__ import annotations

import threading
from pathlib import Path

from continuum_tasks.cli.frame import enqueue
from continuum_tasks.cli.frame.enqueue import Subject
from continuum_tasks.host.job_kinds import CreateBackup
from continuum_tasks.model import Strategy
from continuum_tasks.runtime import open_runtime
from tests.support.stack import server, write_config_files

WORK = Subject(
    arguments=CreateBackup(database="main", strategy=Strategy.FULL), title="backup", database="main", seen_by="look there"
)


def test_a_broker_that_is_just_restarting_is_waited_for(tmp_path: Path) -> None:
    with open_runtime(write_config_files(tmp_path / "c")) as runtime:
        runtime.jobs.beat("agent", "agent.h1", host="h1", now=runtime.site.clock.now())
        found = threading.Event()

        def restart() -> None:
            found.wait(0.3)
            with server(runtime.config):
                found.wait(180)

        restarting = threading.Thread(target=restart)
        restarting.start()
        try:
            bell = enqueue.find_queue(WORK, runtime)
            bell.app.close()
            assert bell.queue == "agent.h1"
        finally:
            found.set()
            restarting.join()
