"""Read a log from its end: rotated files before it, compressed ones too, and follow it over rotations."""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from continuum_tasks.errors import ConfigError

BLOCK_BYTES = 65_536
MAX_LINE_BYTES = 1024 * 1024  # a longer line comes in pieces: memory stays bounded whatever the file holds
_ROTATED = re.compile(r"[.-][0-9][0-9T_.-]*(\.gz)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One file of a log as it was when it was opened: `size` bytes of it count, and all of a compressed one (None)."""

    path: Path
    file: BinaryIO
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWindow:
    """Which lines are asked for: those `wanted`, the last `n` of them (None: all), none from before a line that is `over`."""

    wanted: Callable[[bytes], bool]
    over: Callable[[bytes], bool]
    n: int | None


def open_log(path: Path, stack: ExitStack, *, not_before: float = 0.0) -> list[LogFile]:
    """Open a log and its rotated files, newest first, leaving out those last written before `not_before` (epoch seconds).

    Raises OSError naming the file, ConfigError for what is no regular file.
    """
    found = [_open(path, stack)] if path.exists() else []
    seen = {_identity(source.file.fileno()) for source in found}
    for rotated in _rotated(path):
        try:
            status = rotated.stat()
        except FileNotFoundError:  # rotated away in this moment
            continue
        if status.st_mtime >= not_before and (status.st_dev, status.st_ino) not in seen and stat.S_ISREG(status.st_mode):
            seen.add((status.st_dev, status.st_ino))
            found.append(_open(rotated, stack))
    return found


def log_lines(sources: Sequence[LogFile], window: LogWindow, *, tell: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the lines of a window, oldest first, without line breaks; a file that cannot be read is told and left out."""
    starts: list[tuple[LogFile, int]] = []
    missing = window.n
    for source in sources:
        if missing == 0:
            break
        start, n, over = _start(source, window, missing, tell=tell)
        starts.append((source, start))
        missing = None if missing is None else missing - n
        if over:
            break
    for source, start in reversed(starts):
        for line in _forwards(source, start):
            if window.wanted(line):
                yield line


def backwards(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of the first `size` bytes, last first, each with its offset and without its line break."""
    if size == 0:
        return
    file.seek(size - 1)
    end = size - 1 if file.read(1) == b"\n" else size
    rest = b""  # of a line that begins before `end`
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        block = file.read(end - start) + rest
        at = start + len(block)
        pieces = block.split(b"\n")
        for piece in reversed(pieces[1:]):
            at -= len(piece)
            yield at, piece
            at -= 1
        rest, end = pieces[0], start
        if len(rest) > MAX_LINE_BYTES and end:
            yield start, rest
            rest = b""
    yield 0, rest


class LogFollower:
    """Reads what is appended to a log from `offset` on, and goes over to the file that takes its place."""

    def __init__(self, path: Path, *, descriptor: int | None, offset: int) -> None:
        self._path = path
        self._descriptor = None if descriptor is None else os.dup(descriptor)
        self._offset = offset
        self._rest = b""
        self._moved = False

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def poll(self) -> list[bytes]:
        """Return the whole lines that came since the last look; call it every so often."""
        found = self._drain()
        if self._descriptor is not None and not self._is_replaced(self._descriptor):
            self._moved = False
        elif self._descriptor is not None and not self._moved:
            self._moved = True  # who had it open may write one more line: drained at the next look
        else:
            found += self._go_over()
        return found

    def _go_over(self) -> list[bytes]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return []
        last = [self._rest] if self._rest else []
        self.close()
        self._descriptor, self._offset, self._rest, self._moved = descriptor, 0, b"", False
        return last + self._drain()

    def _is_replaced(self, descriptor: int) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False  # nothing takes its place yet
        return (status.st_dev, status.st_ino) != _identity(descriptor)

    def _drain(self) -> list[bytes]:
        if self._descriptor is None:
            return []
        if os.fstat(self._descriptor).st_size < self._offset:  # cut off in place
            self._offset, self._rest = 0, b""
        found: list[bytes] = []
        while data := os.pread(self._descriptor, BLOCK_BYTES, self._offset):
            self._offset += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            found += whole
            if len(self._rest) > MAX_LINE_BYTES:
                found.append(self._rest)
                self._rest = b""
        return found


def _start(source: LogFile, window: LogWindow, n: int | None, *, tell: Callable[[str], None]) -> tuple[int, int, bool]:
    """Return where in a file the window begins, how many wanted lines follow, and whether it begins in this file for sure."""
    if source.size is None:
        try:
            return _start_compressed(source, window, n)
        except (OSError, EOFError, zlib.error) as err:
            tell(f"{source.path}: skipped: {err}")
            return -1, 0, False
    start, count = source.size, 0
    for offset, line in backwards(source.file, source.size):
        if window.over(line):
            return start, count, True
        start = offset
        count += window.wanted(line)
        if count == n:
            return start, count, True
    return start, count, False


def _start_compressed(source: LogFile, window: LogWindow, n: int | None) -> tuple[int, int, bool]:
    offsets: deque[int] = deque(maxlen=n)
    offset, over = 0, False
    while line := source.file.readline(MAX_LINE_BYTES):
        text = line.rstrip(b"\n")
        if window.over(text):
            offsets.clear()
            over = True
        elif window.wanted(text) and (n is not None or not offsets):
            offsets.append(offset)
        offset += len(line)
    return (offsets[0] if offsets else -1), len(offsets), over or len(offsets) == n


def _forwards(source: LogFile, start: int) -> Iterator[bytes]:
    if start < 0:
        return
    source.file.seek(start)
    left = MAX_LINE_BYTES if source.size is None else source.size - start
    while left > 0:
        line = source.file.readline(min(MAX_LINE_BYTES, left))
        if not line:
            return
        left -= 0 if source.size is None else len(line)
        yield line.rstrip(b"\n")


def _open(path: Path, stack: ExitStack) -> LogFile:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ConfigError(f"{path}: is no regular file", hint="log_file in backup.conf names the file that workers write")
    raw = stack.enter_context(os.fdopen(descriptor, "rb"))
    if path.suffix == ".gz":
        return LogFile(path=path, file=cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw))), size=None)
    return LogFile(path=path, file=raw, size=status.st_size)


def _rotated(path: Path) -> list[Path]:
    """Return what rotation made of the log, newest first: `NAME.1`, `NAME.2.gz`, `NAME-20251206`."""
    if not path.parent.is_dir():
        return []
    names = [p for p in path.parent.iterdir() if p.name.startswith(path.name) and _ROTATED.fullmatch(p.name[len(path.name) :])]
    return sorted(names, key=lambda p: (-_written(p), p.name))


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
