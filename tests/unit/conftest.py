"""Unit tests start no server: a program that serves, or a port that is bound here, fails the test that did it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

_SERVES = re.compile(r"redis-server|valkey-server|ministack|rclone|workers\.(stack|pools|capture)\b|\bcelery\b|moto_server")
_started: list[str] = []


def _note(event: str, args: tuple[object, ...]) -> None:
    if event == "subprocess.Popen" and isinstance(args[1], list | tuple):
        words = " ".join(str(word) for word in args[1] if len(str(word)) < 200)  # not programs given as text
        if _SERVES.search(words):
            _started.append(words)
    elif event == "socket.bind" and isinstance(args[1], tuple):
        _started.append(f"a socket bound to {args[1]}")


sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def _no_server() -> Iterator[None]:
    _started.clear()
    yield
    assert not _started, f"a unit test starts no server (tests/integration may): {_started}"
