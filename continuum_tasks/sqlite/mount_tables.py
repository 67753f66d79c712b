"""The mount tables this process may read, and the refusal of files that mounts give a second name."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.errors import SourceRefused
from continuum_tasks.sqlite.mounts import Mount, is_mount_point, mount_of, parse_mounts, second_name
from continuum_tasks.sqlite.plan.file_systems import file_system_remark, refusal
from continuum_tasks.sqlite.raw import SIDECARS

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountTables:
    """`own` is the table of this process; `others` one of each other mount namespace (a container) that it may look into."""

    own: tuple[Mount, ...]
    others: tuple[tuple[Mount, ...], ...] = ()

    def name_by_mount(self, path: Path) -> str | None:
        """Return another name of the database or of a sidecar, None where mounts give it none. `path` is resolved."""
        found = (second_name(f"{path}{suffix}", self.own, self.others) for suffix in ("", *SIDECARS))
        return next((name for name in found if name is not None), None)

    def is_mount_point(self, path: Path) -> bool:
        """Tell whether the file is mounted at that very path: no other can be renamed to it."""
        return is_mount_point(str(path), self.own)

    def kind(self, path: Path) -> str:
        """Return the type of the file system a resolved path lies on, empty where it cannot be told."""
        mount = mount_of(str(path), self.own)
        return "" if mount is None else mount.kind


def read_mount_tables() -> MountTables:
    """Read them from /proc; empty where there is none. Costs a readlink for each process and a file for each namespace.

    Root sees the containers of its host; other users see only namespaces of their own processes, a container only itself.
    """
    if not (_PROC / "self" / "mountinfo").exists():
        return MountTables(own=())
    texts: dict[str, str] = {_namespace("self"): _text("self")}
    for name in os.listdir(_PROC):  # noqa: PTH208 a Path for each process costs more than all the rest
        if name.isdigit():
            namespace = _namespace(name)
            if namespace and namespace not in texts:
                texts[namespace] = _text(name)
    own, *others = (parse_mounts(text) for text in texts.values())
    return MountTables(own=own, others=tuple(others))


class RecentMountTables:
    """The mount tables, read again when they are older than `seconds`: many databases are looked after in one process."""

    def __init__(self, *, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._found: MountTables | None = None
        self._read_at = 0.0

    def __call__(self) -> MountTables:
        now = self._monotonic()
        if self._found is None or now - self._read_at >= self._seconds:
            self._found, self._read_at = read_mount_tables(), now
        return self._found


def refuse_place(path: Path, tables: MountTables, *, accepted: Collection[str] | None) -> None:
    """Refuse a file with a second name by mount, or on a file system where locks do not hold. Raises SourceRefused.

    `accepted` are types of file systems that are not refused, None for any.
    """
    refuse_second_name(path, tables)
    refused = None if accepted is None else refusal(tables.kind(path), accepted)
    if refused is not None:
        raise SourceRefused(f"{path}: {refused[0]}", hint=refused[1])


def refuse_second_name(path: Path, tables: MountTables) -> None:
    """Refuse a database that is mounted by itself, here or in a container. Raises SourceRefused."""
    name = tables.name_by_mount(path)
    if name is not None:
        where = "" if Path(name) == path else f", at {name}"
        raise SourceRefused(f"{path}: mounted by itself{where}, apart from its directory", hint=MOUNT_THE_DIRECTORY)


def place_remark(path: Path, tables: MountTables, *, accepted: Collection[str] | None) -> str:
    """Return a warning about a file system that is not known, empty where there is none."""
    text = "" if accepted is None else file_system_remark(tables.kind(path), accepted)
    return f"{path}: {text}" if text else ""


MOUNT_THE_DIRECTORY = (
    "SQLite keeps -wal, -shm and -journal in the directory of each name, so two names lose commits:"
    " mount the directory that holds the database instead of the file (docker run -v /srv/app:/data)"
)


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 as above
    except OSError:  # gone meanwhile, or another user's
        return ""


def _text(pid: str) -> str:
    try:
        return (_PROC / pid / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
