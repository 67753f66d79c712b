"""Transient failures are tried again within bounds; everything else is raised at once."""

from __future__ import annotations

import pytest

from continuum_tasks.errors import (
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnreachable,
)
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.storage.probe import probe
from continuum_tasks.storage.retrying import Clockwork, Retrying, RetryPolicy
from tests.storage.faults import Corrupting, Failing, Slow

POLICY = RetryPolicy(attempts=4, base_seconds=1.0, cap_seconds=3.0, deadline_seconds=100.0)


class Ticks:
    """A clock that only moves when somebody sleeps."""

    def __init__(self, share: float = 1.0) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.clockwork = Clockwork(sleep=self._sleep, random=lambda: share, monotonic=lambda: self.now)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def down() -> StorageUnreachable:
    return StorageUnreachable("storage x: no answer", hint="check it")


def test_a_transient_failure_is_tried_again_for_every_call() -> None:
    memory = MemoryStorage()
    memory.put("k", b"data")
    calls = {
        "get": lambda s: s.get("k"),
        "put": lambda s: s.put("k", b"data"),
        "list": lambda s: list(s.list()),
        "stat": lambda s: s.stat("k"),
        "capabilities": lambda s: s.capabilities(),
        "delete": lambda s: s.delete("k"),
    }
    for name, call in calls.items():
        failing = Failing(memory, before=[down(), down()])
        call(Retrying(failing, POLICY, clockwork=Ticks().clockwork))
        assert failing.calls == [name] * 3


def test_waits_double_up_to_the_cap_and_are_jittered_over_their_whole_length() -> None:
    full, none = Ticks(share=1.0), Ticks(share=0.0)
    for ticks in (full, none):
        retrying = Retrying(Failing(MemoryStorage(), before=[down()] * 9), POLICY, clockwork=ticks.clockwork)
        with pytest.raises(StorageUnreachable):
            retrying.delete("k")
    assert full.slept == [1.0, 2.0, 3.0]
    assert none.slept == [0.0, 0.0, 0.0]


def test_it_gives_up_after_the_attempts_and_says_how_many() -> None:
    failing = Failing(MemoryStorage(), before=[down()] * 9)
    with pytest.raises(StorageUnreachable, match=r"storage x: no answer \(try 4, 6 s\)") as caught:
        Retrying(failing, POLICY, clockwork=Ticks().clockwork).get("k")
    assert caught.value.hint == "check it"
    assert len(failing.calls) == 4


def test_no_try_starts_past_the_deadline() -> None:
    ticks = Ticks()
    policy = RetryPolicy(attempts=100, base_seconds=1.0, cap_seconds=4.0, deadline_seconds=10.0)
    with pytest.raises(StorageUnreachable, match=r"\(try 4, 7 s\)"):
        Retrying(Failing(MemoryStorage(), before=[down()] * 100), policy, clockwork=ticks.clockwork).get("k")
    assert ticks.now <= 10.0


@pytest.mark.parametrize("error", [StorageDenied, StorageFull, StorageError, ObjectMissing, ObjectDamaged])
def test_what_cannot_pass_is_raised_at_once(error: type[StorageError]) -> None:
    failing = Failing(MemoryStorage(), before=[error("no")])
    with pytest.raises(error):
        Retrying(failing, POLICY, clockwork=Ticks().clockwork).get("k")
    assert failing.calls == ["get"]


def test_a_create_only_put_whose_answer_was_lost_counts_as_written() -> None:
    memory = MemoryStorage()
    retrying = Retrying(Failing(memory, after=[down()]), POLICY, clockwork=Ticks().clockwork)
    retrying.put("lease", b"mine", only_new=True)
    assert memory.get("lease") == b"mine"


def test_a_create_only_put_that_lost_to_another_writer_says_so_after_a_retry() -> None:
    memory = MemoryStorage()
    memory.put("lease", b"another's")
    retrying = Retrying(Failing(memory, before=[down()]), POLICY, clockwork=Ticks().clockwork)
    with pytest.raises(ObjectExists):
        retrying.put("lease", b"mine", only_new=True)


def test_a_create_only_put_onto_equal_bytes_is_refused_without_a_failure_before() -> None:
    memory = MemoryStorage()
    memory.put("lease", b"mine")
    with pytest.raises(ObjectExists):
        Retrying(memory, POLICY, clockwork=Ticks().clockwork).put("lease", b"mine", only_new=True)


def test_a_listing_that_breaks_half_way_is_read_anew() -> None:
    memory = MemoryStorage()
    for n in range(5):
        memory.put(f"k{n}", b"")
    retrying = Retrying(Failing(memory, before=[down()]), POLICY, clockwork=Ticks().clockwork)
    assert [info.key for info in retrying.list()] == [f"k{n}" for n in range(5)]


def test_the_probe_reports_a_storage_that_corrupts() -> None:
    with pytest.raises(ObjectDamaged, match=r"storage x: object \.probe/"):
        probe(Corrupting(MemoryStorage()), name="x", monotonic=lambda: 0.0)


def test_the_probe_removes_its_objects_when_a_step_fails() -> None:
    memory = MemoryStorage()
    with pytest.raises(StorageDenied):
        probe(Failing(memory, before=[None, None, None, StorageDenied("no")]), name="x", monotonic=lambda: 0.0)
    assert list(memory.list()) == []


def test_the_probe_measures_what_a_slow_storage_takes() -> None:
    ticks = iter(range(1000))
    report = probe(Slow(MemoryStorage(), seconds=0.001), name="x", monotonic=lambda: float(next(ticks)), size_bytes=5000)
    assert report.upload_bytes_per_second == 5000
    assert report.download_bytes_per_second == 5000
    assert {step.seconds for step in report.steps} == {1.0}
    transfers = ["write small", "read small", "write large", "read large", "read range"]
    assert [step.name for step in report.steps] == ["capabilities", *transfers, "list", "stat", "create only", "delete"]
