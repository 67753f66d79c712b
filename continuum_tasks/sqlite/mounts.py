"""Where a file lies by the mount tables, and which other names mounts give it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath as Posix

from continuum_tasks.sqlite.plan.file_systems import refusal

Location = tuple[str, str]  # device (`major:minor`), path inside that file system


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of a mount table: `root` of the file system `device` is seen at `point`. Ids are 0 where none are told."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    kind: str


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Read the text of /proc/PID/mountinfo, or of /proc/PID/mounts, which tells less; passes over what it cannot read."""
    return tuple(mount for line in text.splitlines() if (mount := _mount(line)) is not None)


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount that a path is seen through, as the kernel finds it: mounts below a later one are hidden."""
    on_the_way = [mount for mount in mounts if _below(path, mount.point)]
    ids = {mount.id for mount in on_the_way}
    roots = [mount for mount in on_the_way if mount.point == "/" and mount.parent not in ids - {mount.id}]
    if not roots or not roots[0].id:  # no ids, or the root of a chroot, which is no mount: innermost and latest
        return max(enumerate(on_the_way), key=lambda one: (len(Posix(one[1].point).parts), one[0]), default=(0, None))[1]
    found = roots[0]
    while True:
        on_the_way.remove(found)  # emulated tables may have circles
        children = [mount for mount in on_the_way if mount.parent == found.id]
        if not children:
            break
        found = min(children, key=lambda mount: len(mount.point))
    return found


def location(path: str, mounts: Iterable[Mount]) -> Location | None:
    """Return where a path leads: the same for every name of a file on one file system. None where it cannot be told."""
    mount = mount_of(path, mounts)
    if mount is None or not mount.device:
        return None
    if path == mount.point:  # as it is: a file that was deleted since has `//deleted` behind it
        return mount.device, mount.root
    return mount.device, str(Posix(mount.root) / Posix(path).relative_to(mount.point))


def is_mount_point(path: str, mounts: Iterable[Mount]) -> bool:
    """Tell whether something is mounted at this very path, so that nothing can be renamed to it."""
    mount = mount_of(path, mounts)
    return mount is not None and mount.point == path


def second_name(path: str, own: tuple[Mount, ...], others: Iterable[tuple[Mount, ...]]) -> str | None:
    """Return a mount of this one file whose sidecars are not those beside `path`; None where there is none.

    SQLite makes `-wal`, `-shm` and `-journal` in the directory of the name it was given. `own` is the table of this process,
    `others` those of other mount namespaces. A file mounted over itself keeps its directory, and is no second name.
    """
    here = location(path, own)
    if here is None:
        return None
    for mounts in (own, *others):
        for mount in mounts:
            if (mount.device, mount.root) != here or mount_of(mount.point, mounts) is not mount:
                continue  # of another file, or hidden by a later one
            if _beside(mount.point, mounts) != here:
                return mount.point
    return None


def network_file_system(path: object, mounts: str) -> str | None:
    """Return the type of the file system `path` lies on when a database there is refused, else None."""
    mount = mount_of(str(path), parse_mounts(mounts))
    return mount.kind if mount is not None and refusal(mount.kind, ()) else None


def _beside(path: str, mounts: Iterable[Mount]) -> Location | None:
    """Return where a file of this name lies in the directory of `path` when nothing is mounted at `path` itself."""
    parent = location(str(Posix(path).parent), mounts)
    return None if parent is None else (parent[0], str(Posix(parent[1]) / Posix(path).name))


def _below(path: str, point: str) -> bool:
    return point == "/" or path == point or path.startswith(f"{point}/")


def _mount(line: str) -> Mount | None:
    fields = line.split(" ")
    if "-" in fields[6:] and len(fields) > fields.index("-", 6) + 1 and fields[0].isdigit() and fields[1].isdigit():
        kind = fields[fields.index("-", 6) + 1]
        return Mount(
            id=int(fields[0]),
            parent=int(fields[1]),
            device=fields[2],
            root=_unescape(fields[3]),
            point=_unescape(fields[4]),
            kind=_unescape(kind),
        )
    if len(fields) < 3:
        return None
    return Mount(id=0, parent=0, device="", root="", point=_unescape(fields[1]), kind=_unescape(fields[2]))


def _unescape(text: str) -> str:
    return "".join(_characters(text))


def _characters(text: str) -> Iterator[str]:
    for part in re.split(r"(\\[0-7]{3})", text):
        yield chr(int(part[1:], 8)) if re.fullmatch(r"\\[0-7]{3}", part) else part
