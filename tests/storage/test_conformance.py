"""What every storage promises; each claim runs against a directory, memory and two real S3 servers."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta

import pytest

from continuum_tasks.errors import ObjectDamaged, ObjectExists, ObjectMissing, StorageError
from continuum_tasks.storage.protocol import Storage
from continuum_tasks.storage.retrying import Retrying, RetryPolicy

BAD_KEYS = ["", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a b", "ä", "a\\b", "a\n", "a~b"]
BAD_KEYS += ["x" * 256, "/".join(["x" * 103] * 5), "日本"]


def random_bytes(n_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_what_was_put_comes_back(storage: Storage, size: int) -> None:
    data = random_bytes(size)
    storage.put("a/b.bin", data)
    assert storage.get("a/b.bin") == data
    assert storage.stat("a/b.bin").size_bytes == size


@pytest.mark.parametrize("make", [bytes, bytearray, lambda data: memoryview(b"--" + data + b"--")[2:-2]])
def test_any_bytes_like_may_be_put(storage: Storage, make) -> None:  # type: ignore[no-untyped-def]
    data = random_bytes(100_000)
    storage.put("k", make(data))
    assert storage.get("k") == data


def test_40_mib_come_back_whole(storage: Storage) -> None:
    data = random_bytes(40 * 1024 * 1024)
    storage.put("big", memoryview(data))
    assert storage.get("big") == data
    assert storage.get("big", offset=33_000_000, length=5) == data[33_000_000:33_000_005]


def test_40_mib_may_be_create_only(storage: Storage) -> None:
    data = random_bytes(40 * 1024 * 1024)
    storage.put("big", data, only_new=True)
    with pytest.raises(ObjectExists):
        storage.put("big", data, only_new=True)
    assert storage.get("big") == data


def test_a_second_put_replaces_the_first(storage: Storage) -> None:
    storage.put("k", b"first, longer")
    storage.put("k", b"second")
    assert storage.get("k") == b"second"


def test_create_only_refuses_a_taken_key_and_keeps_what_is_there(storage: Storage) -> None:
    storage.put("locks/a", b"first", only_new=True)
    with pytest.raises(ObjectExists) as caught:
        storage.put("locks/a", b"second", only_new=True)
    assert "locks/a" in caught.value.message
    assert storage.get("locks/a") == b"first"


def test_a_deleted_key_may_be_created_again(storage: Storage) -> None:
    storage.put("k", b"first", only_new=True)
    storage.delete("k")
    storage.put("k", b"second", only_new=True)
    assert storage.get("k") == b"second"


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, 0), (10, 20), (99, 1), (0, 100), (100, 0), (50, None), (100, None)])
def test_a_range_is_exactly_those_bytes(storage: Storage, offset: int, length: int | None) -> None:
    data = random_bytes(100)
    storage.put("k", data)
    end = None if length is None else offset + length
    assert storage.get("k", offset=offset, length=length) == data[offset:end]


@pytest.mark.parametrize(("offset", "length"), [(0, 101), (99, 2), (100, 1), (101, 0), (200, 10), (101, None)])
def test_a_range_beyond_the_end_is_a_damaged_object(storage: Storage, offset: int, length: int | None) -> None:
    storage.put("a/k", random_bytes(100))
    with pytest.raises(ObjectDamaged, match="a/k"):
        storage.get("a/k", offset=offset, length=length)


def test_a_missing_object_is_named(storage: Storage) -> None:
    storage.put("a/there", b"x")
    for key in ("a/nothing", "nowhere/nothing", "a"):
        with pytest.raises(ObjectMissing, match=key):
            storage.get(key)
        with pytest.raises(ObjectMissing, match=key):
            storage.get(key, offset=1, length=1)
        with pytest.raises(ObjectMissing, match=key):
            storage.stat(key)


def test_an_untouched_storage_is_empty(storage: Storage) -> None:
    assert list(storage.list()) == []
    with pytest.raises(ObjectMissing):
        storage.get("repository.json")
    storage.delete("repository.json")


def test_deleting_twice_is_no_error(storage: Storage) -> None:
    storage.put("a/b/k", b"x")
    storage.delete("a/b/k")
    storage.delete("a/b/k")
    assert list(storage.list()) == []


def test_listing_is_sorted_and_says_size_and_time(storage: Storage) -> None:
    for size, key in enumerate(["b/2", "a-1", "b/10", "a/1", "b.1", "B/1", "a/1.x"]):
        storage.put(key, b"x" * size)
    found = list(storage.list())
    assert [info.key for info in found] == ["B/1", "a-1", "a/1", "a/1.x", "b.1", "b/10", "b/2"]
    assert {info.key: info.size_bytes for info in found}["a/1.x"] == 6
    for info in found:
        assert info.modified_at.tzinfo is UTC
        assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=1)
        assert abs(storage.stat(info.key).modified_at - info.modified_at) < timedelta(seconds=1.01)


def test_a_prefix_is_any_beginning_of_a_key(storage: Storage) -> None:
    for key in ("a/b/1", "a/bc/2", "ab/3"):
        storage.put(key, b"x")
    assert {info.key for info in storage.list("a/b/")} == {"a/b/1"}
    assert {info.key for info in storage.list("a/b")} == {"a/b/1", "a/bc/2"}
    assert {info.key for info in storage.list("a")} == {"a/b/1", "a/bc/2", "ab/3"}
    assert list(storage.list("nothing/")) == []
    assert list(storage.list("a/b/1/")) == []


def test_1100_objects_are_all_listed(storage: Storage) -> None:
    """Written as the product does, with retries: rclone now and then answers 500 to writers that race."""
    storage = Retrying(storage, RetryPolicy())
    keys = [f"layers/{n % 7}/{n:05}" for n in range(1100)]
    workers = [threading.Thread(target=lambda part=keys[n::4]: [storage.put(k, b"x") for k in part]) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [info.key for info in storage.list()] == sorted(keys)
    assert len(list(storage.list("layers/3/"))) == 157


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_name_that_is_no_key_is_refused_everywhere(storage: Storage, key: str) -> None:
    for call in (storage.get, storage.stat, storage.delete, lambda key: storage.put(key, b"")):
        with pytest.raises(StorageError, match="may not name an object"):
            call(key)


@pytest.mark.parametrize("prefix", ["/", "a//", "../", "a/..", "a b", "ä"])
def test_a_prefix_no_key_can_have_is_refused(storage: Storage, prefix: str) -> None:
    with pytest.raises(StorageError, match="cannot begin a key"):
        list(storage.list(prefix))


LONG_KEYS = ["x" * 255, "/".join(["x" * 100] * 5)]


@pytest.mark.parametrize("key", [*LONG_KEYS, "a", "A-Z_0.9", "a/b/c/d/e/f", "..a", "a..b", ".hidden", "-"])
def test_a_name_that_is_a_key_is_taken(storage: Storage, key: str) -> None:
    storage.put(key, b"x")
    assert [info.key for info in storage.list()] == [key]
    assert storage.get(key) == b"x"


def test_a_negative_range_is_misuse(storage: Storage) -> None:
    storage.put("k", b"x")
    with pytest.raises(RuntimeError):
        storage.get("k", offset=-1)
    with pytest.raises(RuntimeError):
        storage.get("k", length=-1)


def test_of_many_racing_create_only_writers_exactly_one_wins(storage: Storage) -> None:
    """Where `conditional_put` is false (rclone) two may win, and capabilities say so; but never none."""
    storage = Retrying(storage, RetryPolicy())
    atomic = storage.capabilities().conditional_put
    assert atomic is ("rclone" not in repr(storage))
    for turn in range(5):
        winners = race(storage, f"leases/{turn}", n_threads=8)
        assert len(winners) == 1 if atomic else winners
        assert storage.get(f"leases/{turn}")[:6] == b"winner"


def race(storage: Storage, key: str, *, n_threads: int) -> list[int]:
    won: list[int] = []
    gate = threading.Barrier(n_threads)

    def run(number: int) -> None:
        gate.wait()
        try:
            storage.put(key, f"winner {number}".encode(), only_new=True)
        except ObjectExists:
            return
        won.append(number)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_capabilities_leave_nothing_behind(storage: Storage) -> None:
    first = storage.capabilities()
    assert storage.capabilities().conditional_put == first.conditional_put
    assert list(storage.list()) == []
