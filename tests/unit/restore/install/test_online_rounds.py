"""Many states written into one live database, one after the other, some of them killed, under writers that never pause."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from continuum_tasks.errors import JobFailed, TargetBusy
from continuum_tasks.restore.install.online import live_writer
from tests.support.other import START, run, sql
from tests.support.overwriting import database, order

# Each commit is acknowledged in a file of the writer with the name of the state it was made in, read in the same transaction.
WRITER = """
import pathlib
name, long_lived = sys.argv[2], sys.argv[3] == 'long'
told = open(path + '.' + name, 'a')
c = connect(timeout=60); n = 0
print('ready', flush=True)
while not pathlib.Path(path + '.stop').exists() and n < 1000000:
    n += 1
    if not long_lived:
        c.close(); c = connect(timeout=60)
    c.execute('BEGIN IMMEDIATE')
    c.execute('INSERT INTO told(writer, n) VALUES (?, ?)', (name, n))
    state = c.execute('SELECT name FROM state').fetchone()[0]
    c.execute('COMMIT')
    print(n, state, file=told, flush=True)
    time.sleep(0.001)
"""


@contextmanager
def writers(live: Path) -> Iterator[None]:
    started = [
        subprocess.Popen(
            [sys.executable, "-IS", "-c", START + WRITER, str(live), f"w{i}", kind], stdout=subprocess.PIPE, text=True
        )
        for i, kind in enumerate(("long", "short", "short"))
    ]
    try:
        for one in started:
            assert one.stdout is not None and one.stdout.readline() == "ready\n"
        yield
        Path(f"{live}.stop").touch()
        assert [one.wait(120) for one in started] == [0, 0, 0]  # no writer ever got an error
    finally:
        for one in started:
            one.kill()
            one.communicate()


def state(path: Path, name: str, n_rows: int) -> Path:
    then = f"""
c.execute('CREATE TABLE told(writer, n)'); c.execute('CREATE TABLE state(name)')
c.execute("INSERT INTO state VALUES ('{name}')")
"""
    return database(path, n_rows=n_rows, then=then)


def rounds(tmp_path: Path, journal: str, n_rounds: int) -> None:
    chance = random.Random(7)
    live = state(tmp_path / "live.db", "first", 100)
    run(live, f"c = connect(); c.execute('PRAGMA journal_mode={journal}'); c.close()")
    with writers(live):
        for number in range(n_rounds):
            last = number == n_rounds - 1
            source = state(tmp_path / f"s{number}.db", "last" if last else f"s{number}", chance.randrange(10, 400))
            one = order(live, source, quarantine=str(tmp_path / f"q{number}"), wait_writers=last)
            with live_writer(one) as writer:
                if not last and chance.random() < 0.4:
                    killer = (
                        f"import os, signal, time; time.sleep({chance.random() * 0.1}); os.kill({writer.pid}, signal.SIGKILL)"
                    )
                    killing = subprocess.Popen([sys.executable, "-IS", "-c", killer], stderr=subprocess.DEVNULL)
                    with killing, suppress(JobFailed, TargetBusy):
                        writer.write()
                else:
                    writer.write()
            assert sql(live, "PRAGMA busy_timeout=60000; PRAGMA integrity_check").endswith("('ok',)")
        time.sleep(0.2)
    told = [line.split() for i in range(3) for line in Path(f"{live}.w{i}").read_text().splitlines()]
    kept = sum(name == "last" for _, name in told)
    assert (
        kept
        and sql(live, "SELECT count(*) FROM told; SELECT name FROM state; PRAGMA integrity_check")
        == f"({kept},)('last',)('ok',)"
    )


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_no_state_written_under_writers_harms_the_database_or_loses_a_later_commit(tmp_path: Path, journal: str) -> None:
    rounds(tmp_path, journal, 5)


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_nor_do_hundreds_of_them(tmp_path: Path, journal: str) -> None:
    rounds(tmp_path, journal, 250)
