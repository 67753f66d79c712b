"""The audit log: whatever is changed, moved, put in or taken out of the middle shows."""

from __future__ import annotations

import multiprocessing
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.host import audit

EVENT = audit.Event(
    at=datetime(2026, 11, 23, tzinfo=UTC), user="me", host="h1", action="hold", subject="b", outcome="done", detail="é \ud800"
)


def make(path: Path, n: int) -> list[bytes]:
    path.unlink(missing_ok=True)
    for number in range(n):
        audit.append_event(path, replace(EVENT, at=EVENT.at + timedelta(hours=number), subject=str(number)))
    return path.read_bytes().splitlines(keepends=True)


def broken(path: Path) -> list[int]:
    return [line.number for line in audit.read_events(path) if not line.intact]


def test_what_was_recorded_reads_back_intact(tmp_path: Path) -> None:
    make(tmp_path / "audit.log", 5)
    lines = list(audit.read_events(tmp_path / "audit.log", since=EVENT.at + timedelta(hours=3)))
    assert [(line.number, line.event and line.event.subject, line.intact) for line in lines] == [(4, "3", True), (5, "4", True)]
    assert list(audit.read_events(tmp_path / "nothing")) == []


def test_any_byte_that_is_changed_is_found_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    whole = b"".join(make(path, 3))
    chance = random.Random(1)
    for at in range(len(whole) - 1):
        value = chance.choice(
            [value for value in (0x20, 0x22, 0x2C, whole[at] ^ 1, whole[at] ^ 32, 0x0A) if value != whole[at]]
        )
        path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        assert min(broken(path)) == whole[:at].count(b"\n") + 1, at


@pytest.mark.parametrize(
    ("order", "found"), [((0, 2, 3), [2]), ((1, 2, 3), [1]), ((0, 2, 1, 3), [2, 3, 4]), ((0, 1, 1, 2, 3), [3])]
)
def test_lines_taken_out_swapped_or_doubled_are_found(tmp_path: Path, order: tuple[int, ...], found: list[int]) -> None:
    path = tmp_path / "audit.log"
    lines = make(path, 4)
    path.write_bytes(b"".join(lines[number] for number in order))
    assert [line.number for line in audit.read_events(path, since=EVENT.at + timedelta(days=9))] == found == broken(path)


@pytest.mark.parametrize("junk", [b"\n", b"[]\n", b'"x"\n', b"{}\n", b"\xff\n", b"[" * 100_000 + b"\n", b"null\n"])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "audit.log"
    lines = make(path, 3)
    path.write_bytes(b"".join([lines[0], junk, *lines[1:]]))
    assert next((line.number, line.trouble) for line in audit.read_events(path) if line.trouble) == (2, "cannot be read")


def test_a_torn_last_line_is_named_and_the_next_one_begins_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(make(path, 2))[:-30])
    audit.append_event(path, replace(EVENT, subject="after"))
    audit.append_event(path, replace(EVENT, subject="last"))
    lines = list(audit.read_events(path))
    assert [line.trouble for line in lines] == ["", "cannot be read", "", ""]
    assert lines[-1].event is not None and lines[-1].event.subject == "last"


def test_a_line_of_any_length_is_chained(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for n in (10, 70_000, 700_000, 10):
        audit.append_event(path, replace(EVENT, detail="x" * n))
    assert broken(path) == []


def _record(path: Path, name: str) -> None:
    for _ in range(50):
        audit.append_event(path, replace(EVENT, subject=name))


def test_processes_that_record_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    children = [multiprocessing.get_context("fork").Process(target=_record, args=(path, name)) for name in "abc"]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    lines = list(audit.read_events(path))
    assert len(lines) == 150 and all(line.intact for line in lines)
