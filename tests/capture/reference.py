"""A capturer in a hundred lines, to prove the harness: with pins it must lose nothing, without them it must lose commits.

`python -m tests.capture.reference DATABASE DIRECTORY pins|nopins`: captures until the file DIRECTORY/stop exists. In DIRECTORY
are then `log` (a JSON line per base and per commit), `frames` (page numbers and pages) and `base-N` (the database when it
began, or went on after a hole). It shares no code with the product, and trusts the checksum chain at the last committed frame
alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.capture import rawwal, workload
from tests.capture.crew import size_of
from tests.capture.library import tether
from tests.capture.verdict import Seen

Line = dict[str, Any]
_ROTATE_SECONDS = 0.05


class _Capturer:
    """`at` is the last committed frame captured of the WAL with these salts."""

    def __init__(self, database: Path, directory: Path) -> None:
        self._database, self._directory = database, directory
        self._wal = database.with_name(database.name + "-wal")
        self._shm = database.with_name(database.name + "-shm")
        self._lines = list(read_log(directory))
        self._last: Line | None = self._lines[-1] if self._lines else None
        end = self._last["end"] if self._last else 0
        self._log = (directory / "log").open("a")
        self._frames = (directory / "frames").open("r+b" if end else "wb")
        self._frames.truncate(end)  # what a killed one wrote and did not log
        self._frames.seek(end)

    def begin(self) -> bool:
        """Go on where the last line ends if the WAL still has that very frame, else take a base. False: try again."""
        if self._last is not None and self._still_has(self._last):
            return True
        image = bytearray(self._database.read_bytes())
        if image[18:20] != b"\x02\x02":
            return False  # not in WAL mode now: a pin would keep all writers out
        shm = self._committed()
        page_size = int.from_bytes(image[16:18], "big")
        page_size = 65536 if page_size == 1 else page_size
        taken = self._read(shm, 0) if shm and shm.n_frames else None
        if (shm is None and self._wal.exists()) or (shm and shm.n_frames and taken is None):
            return False
        for pgno, page, _ in taken or ():
            image[(pgno - 1) * page_size : pgno * page_size] = page
        base = f"base-{sum('base' in line for line in self._lines)}"
        (self._directory / base).write_bytes(image[: shm.n_pages * page_size] if taken else image)
        self._write({"base": base, "n": workload.number_in(image), "page_size": page_size, **_place(shm)}, b"")
        return True

    def capture(self) -> None:
        """Take every commit up to the last committed frame that is visible now."""
        shm = self._committed()
        if shm is None or self._last is None:
            return
        at = self._last["at"] if self._last["salts"] == shm.salts.hex() else 0
        n, pages = self._last["n"], bytearray()
        for pgno, page, frame in self._read(shm, at) or ():
            at += 1
            pages += pgno.to_bytes(4, "big") + page
            n = workload.number_in(page) if pgno == 1 else n
            if frame.n_pages:
                place = {"salts": frame.salts.hex(), "at": at, "checksum": frame.checksum}
                self._write({"n": n, "n_pages": frame.n_pages, "page_size": len(page), **place}, bytes(pages))
                pages.clear()

    def _read(self, shm: rawwal.ShmHead, at: int) -> list[tuple[int, bytes, rawwal.Frame]] | None:
        """Return the committed frames after `at`; None when the WAL is not, or no longer, the one that `shm` speaks of."""
        head = rawwal.read_wal_head(self._wal)
        if head is None or head.salts != shm.salts or at >= shm.n_frames:
            return None
        size = rawwal.FRAME_HEADER + head.page_size
        try:
            with self._wal.open("rb") as wal:
                wal.seek(rawwal.WAL_HEADER + at * size)
                raw = wal.read((shm.n_frames - at) * size)
        except FileNotFoundError:
            return None
        if len(raw) < (shm.n_frames - at) * size or rawwal.read_wal_head(self._wal) != head:
            return None
        frames = [rawwal.parse_frame(raw[start : start + rawwal.FRAME_HEADER]) for start in range(0, len(raw), size)]
        if frames[-1].checksum != shm.checksum or any(frame.salts != shm.salts for frame in frames):
            return None
        starts = range(rawwal.FRAME_HEADER, len(raw), size)
        return [(frame.pgno, raw[start : start + head.page_size], frame) for frame, start in zip(frames, starts, strict=True)]

    def _committed(self) -> rawwal.ShmHead | None:
        for _ in range(2000):
            shm = rawwal.read_shm_head(self._shm)
            if shm is not None:
                return shm
            time.sleep(0.0005)
        return None

    def _still_has(self, last: Line) -> bool:
        shm = self._committed()
        if shm is None or shm.salts.hex() != last["salts"] or shm.n_frames < last["at"] or not last["at"]:
            return False
        size = rawwal.FRAME_HEADER + last["page_size"]
        with self._wal.open("rb") as wal:
            wal.seek(rawwal.WAL_HEADER + (last["at"] - 1) * size)
            return rawwal.parse_frame(wal.read(size)).checksum == tuple(last["checksum"])

    def _write(self, line: Line, pages: bytes) -> None:
        self._frames.write(pages)
        self._frames.flush()
        self._last = {**line, "end": self._frames.tell(), "wal": size_of(self._wal)}
        self._lines.append(self._last)
        self._log.write(json.dumps(self._last) + "\n")
        self._log.flush()


def run(database: Path, directory: Path, *, pinned: bool) -> None:
    pins = _start_pins(database) if pinned else None
    capturer = _Capturer(database, directory)
    _ask(pins, "pin")
    while not capturer.begin():
        _ask(pins, "unpin")
        time.sleep(_ROTATE_SECONDS)
        _ask(pins, "pin")
    (directory / "ready").touch()
    while True:
        stopping = (directory / "stop").exists()
        _ask(pins, "pin")
        capturer.capture()
        _ask(pins, "unpin")
        if stopping:
            return
        time.sleep(_ROTATE_SECONDS if pinned else 0.001)


def _start_pins(database: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.capture.pin", str(database)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _place(shm: rawwal.ShmHead | None) -> Line:
    if shm is None:
        return {"salts": "", "at": 0, "checksum": (0, 0)}
    return {"salts": shm.salts.hex(), "at": shm.n_frames, "checksum": shm.checksum}


def _ask(pins: subprocess.Popen[str] | None, what: str) -> None:
    if pins is None:
        return
    assert pins.stdin is not None
    assert pins.stdout is not None
    pins.stdin.write(what + "\n")
    pins.stdin.flush()
    if pins.stdout.readline() != "done\n":
        raise RuntimeError("the process that holds the pins is gone")


def read_log(directory: Path) -> Iterator[Line]:
    """Yield the whole lines of a capturer's log."""
    path = directory / "log"
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            yield json.loads(line)


def seen(directory: Path) -> list[Seen]:
    """Return every state captured; a base is the state when capture began, or went on after a hole."""
    return [Seen(number=number, n=line["n"], resumed="base" in line) for number, line in enumerate(read_log(directory), 1)]


def restore(directory: Path, numbers: Sequence[int], target: Path) -> Iterator[int]:
    """Make `target` the state after each of these line numbers (ascending, from 1), and yield the workload's number of each."""
    wanted = set(numbers)
    with (directory / "frames").open("rb") as frames:
        for number, line in enumerate(read_log(directory), 1):
            if "base" in line:
                target.write_bytes((directory / line["base"]).read_bytes())
            else:
                _apply(frames.read(line["end"] - frames.tell()), target, line)
            if number in wanted:
                yield line["n"]


def _apply(pages: bytes, target: Path, line: Line) -> None:
    size = line["page_size"]
    with target.open("r+b") as file:
        for start in range(0, len(pages), 4 + size):
            file.seek((int.from_bytes(pages[start : start + 4], "big") - 1) * size)
            file.write(pages[start + 4 : start + 4 + size])
        file.truncate(line["n_pages"] * size)


if __name__ == "__main__":
    tether()
    run(Path(sys.argv[1]), Path(sys.argv[2]), pinned=sys.argv[3] == "pins")
