"""The tools that are compared, each with the same four verbs: prepare, full, second, restore."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import measure
from benchmarks.measure import Command, Step
from benchmarks.places import program

_SECRET = "benchmark"
_STAGED = "memory.db"  # the same path each time: restic and borg find the file they know


class Tool(Protocol):
    """One way to back up `source`. `prepare` is not measured and starts from nothing."""

    @property
    def name(self) -> str: ...
    @property
    def is_peer(self) -> bool: ...
    def prepare(self) -> None: ...
    def full(self) -> Step: ...
    def second(self) -> Step: ...
    def restore(self, target: Path) -> Step: ...
    def stored_bytes(self) -> int: ...


@dataclass(slots=True, kw_only=True)
class Sqlite:
    """`sqlite3 .backup`: a whole copy each time, neither compressed nor encrypted; what peers stage with."""

    source: Path
    place: Path
    name: str = "sqlite3 .backup"
    is_peer: bool = False
    copies: int = 0

    def prepare(self) -> None:
        fresh(self.place)
        (self.place / "copies").mkdir()
        self.copies = 0

    def full(self) -> Step:
        self.copies += 1
        return copy(self.source, self.place / "copies" / f"{self.copies}.db", log=self.place / "log")

    second = full

    def restore(self, target: Path) -> Step:
        return copy(self.place / "copies" / f"{self.copies}.db", target, log=self.place / "log")

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.place / "copies")


@dataclass(slots=True, kw_only=True)
class Restic:
    """restic with its defaults: content-defined chunks, zstd, encryption. Its source is a copy by `sqlite3 .backup`."""

    source: Path
    place: Path
    binary: Path
    name: str = "restic"
    is_peer: bool = True

    def prepare(self) -> None:
        fresh(self.place)
        self._restic("init")

    def full(self) -> Step:
        staged = self.place / _STAGED
        staging = stage(self.source, staged, log=self.place / "log")
        return measure.staged(staging, self._restic("backup", staged, settle=self.place / "repository"))

    second = full

    def restore(self, target: Path) -> Step:
        # It restores to the whole path below the directory it is given; the rename is not the tool's time.
        place = self.place / "restored"
        shutil.rmtree(place, ignore_errors=True)
        step = self._restic("restore", "latest", "--target", place, settle=place)
        (place / (self.place / _STAGED).relative_to("/")).rename(target)
        return step

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.place / "repository")

    def _restic(self, *words: str | Path, settle: Path | None = None) -> Step:
        environment = {
            "RESTIC_REPOSITORY": str(self.place / "repository"),
            "RESTIC_PASSWORD": _SECRET,
            "RESTIC_CACHE_DIR": str(self.place / "cache"),
        }
        command = Command(words=(self.binary, *words), log=self.place / "log", environment=environment)
        return measure.run(command, settle=[settle] if settle else [])


@dataclass(slots=True, kw_only=True)
class Borg:
    """borg with its default chunks and encryption (repokey), one compression. Its source is a copy by `sqlite3 .backup`."""

    source: Path
    place: Path
    binary: Path
    compression: str
    is_peer: bool = True
    archives: int = 0

    @property
    def name(self) -> str:
        return f"borg {self.compression}"

    def prepare(self) -> None:
        fresh(self.place)
        self.archives = 0
        self._borg("init", "--encryption", "repokey")

    def full(self) -> Step:
        self.archives += 1
        staged = self.place / _STAGED
        staging = stage(self.source, staged, log=self.place / "log")
        words = ("create", "--compression", self.compression, f"::{self.archives}", _STAGED)
        return measure.staged(staging, self._borg(*words, settle=self.place / "repository"))

    second = full

    def restore(self, target: Path) -> Step:
        restored = self.place / "restored"
        fresh(restored)
        step = self._borg("extract", f"::{self.archives}", directory=restored, settle=restored)
        (restored / _STAGED).rename(target)
        return step

    def stored_bytes(self) -> int:
        return measure.stored_bytes(self.place / "repository")

    def _borg(self, *words: str, directory: Path | None = None, settle: Path | None = None) -> Step:
        environment = {
            "BORG_REPO": str(self.place / "repository"),
            "BORG_PASSPHRASE": _SECRET,
            "BORG_BASE_DIR": str(self.place / "base"),
        }
        command = Command(
            words=(self.binary, *words), log=self.place / "log", environment=environment, directory=directory or self.place
        )
        return measure.run(command, settle=[settle] if settle else [])


def stage(source: Path, target: Path, *, log: Path) -> Step:
    """Copy a live database to the path where a peer expects it; the copy of the time before goes first, unmeasured."""
    target.unlink(missing_ok=True)
    return copy(source, target, log=log)


def copy(source: Path, target: Path, *, log: Path) -> Step:
    """Copy a database as `sqlite3 SOURCE ".backup TARGET"` does, durably."""
    sqlite = program("sqlite3")
    words: tuple[str | Path, ...] = (sys.executable, "-c", _BACKUP, source, target)
    if sqlite is not None:
        words = (sqlite, source, f".backup '{target}'")
    return measure.run(Command(words=words, log=log), settle=[target])


def versions() -> Mapping[str, str]:
    """Return what each program says of itself."""
    found = {"sqlite3": sqlite3.sqlite_version}
    for name, words in (("sqlite3", "--version"), ("restic", "version"), ("borg", "--version")):
        binary = program(name)
        if binary is not None:
            said = subprocess.run((binary, words), capture_output=True, text=True, check=True).stdout
            found[name] = next(word for word in said.split() if word[:1].isdecimal())
    return found


def fresh(directory: Path) -> None:
    """Make an empty private directory, whatever was there."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)


# Where no sqlite3 program is: the same backup API, 100 pages a step as that program does it.
_BACKUP = """
import sqlite3, sys
source, target = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[2])
source.backup(target, pages=100)
target.close()
"""
