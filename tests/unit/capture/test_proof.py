"""Reading the state that a proof compares: what is given up holds nothing, and what a killed process left is not read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from continuum_tasks.capture.proof import DIGESTS, PROOF, Proof, read_state
from continuum_tasks.capture.reader.follower import CommitFollower
from continuum_tasks.layer.format import DIGEST_BYTES
from tests.support.service import Service
from tests.unit.capture.conftest import Setting
from tests.unit.capture.following import begun, insert

Eventually = Callable[[Callable[[], bool]], None]


class Slow(ThreadPoolExecutor):
    """Threads that begin their work a while after they were given it."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self.begun = Event()
        self.pause_seconds = 0.0
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def late() -> Any:
            self.begun.set()
            time.sleep(self.pause_seconds)
            return fn(*args, **kwargs)

        self.futures.append(super().submit(late))
        return self.futures[-1]


@pytest.fixture
def threads() -> Iterator[Slow]:
    with Slow() as executor:
        yield executor


@pytest.fixture
def follower(setting: Setting, service: Service) -> CommitFollower:
    made = begun(setting)
    insert(service, 5)
    made.look()
    return made


def _is_read(proof: Proof) -> bool:
    proof.step()
    return not proof.busy


def test_a_state_that_was_read_has_a_digest_of_each_page(
    follower: CommitFollower, setting: Setting, threads: Slow, eventually: Eventually
) -> None:
    proof = Proof(follower, place=setting.place)
    proof.begin(threads)
    eventually(lambda: _is_read(proof))
    state = read_state(follower.directory)
    assert state is not None and state.commit == proof.commit == follower.last_commit
    assert (follower.directory / DIGESTS).stat().st_size == state.n_pages * DIGEST_BYTES
    proof.close()
    assert read_state(follower.directory) is None


def test_what_a_killed_process_left_is_removed_before_a_state_is_read_and_not_written_into(
    follower: CommitFollower, setting: Setting, threads: Slow, eventually: Eventually
) -> None:
    """A worker may still compare it: it finds the note gone, and the digests that it opened as they were."""
    before = Proof(follower, place=setting.place)
    before.begin(threads)
    eventually(lambda: _is_read(before))
    assert read_state(follower.directory) is not None
    with (follower.directory / DIGESTS).open("rb") as opened:
        n_bytes = os.fstat(opened.fileno()).st_size
        after = Proof(follower, place=setting.place)
        threads.begun.clear()
        threads.pause_seconds = 0.3
        after.begin(threads)
        assert not (follower.directory / PROOF).exists()
        eventually(lambda: _is_read(after))
        assert len(opened.read()) == n_bytes
        assert os.fstat(opened.fileno()).st_nlink == 0
    after.close()


def test_a_state_that_is_given_up_has_no_thread_left_that_opens_the_database(
    follower: CommitFollower, setting: Setting, threads: Slow
) -> None:
    proof = Proof(follower, place=setting.place)
    threads.pause_seconds = 0.5
    proof.begin(threads)
    assert threads.begun.wait(30)
    proof.close()
    assert all(future.done() for future in threads.futures)
    assert not (follower.directory / DIGESTS).exists()


def test_a_state_whose_reading_has_not_begun_is_given_up_without_waiting(
    follower: CommitFollower, setting: Setting, threads: Slow
) -> None:
    release = Event()
    threads.submit(release.wait)
    proof = Proof(follower, place=setting.place)
    try:
        proof.begin(threads)
        proof.close()
        assert threads.futures[-1].cancelled()
    finally:
        release.set()
