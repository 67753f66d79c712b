"""Decide whether a database's log goes on where its capture stopped, and whether only SQLite wrote the files. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from continuum_tasks.model import Mark

NO_SALTS = "0" * 16
MAX_BEHIND_SECONDS = 60.0
MAX_STEPS = 1 << 16
"""Steps of the first salt between two looks: one a restart of the log. One in 65,536 drawn salts is as near by chance."""
BYPASSED = "not written by SQLite: "
"""How the reason begins of a timeline that began because the files were changed without SQLite's locks."""


class Continuity(StrEnum):
    """What capture does: read on from its mark, declare a hole on the same timeline, or begin a new timeline."""

    GO_ON = "go on"
    HOLE = "hole"
    NEW_TIMELINE = "new timeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The files of a database at one look. Files are `device:inode`, empty for one that is not there.

    A checkpoint raises `n_attempted` before it writes to the database file, and `n_copied` when it has: so while both are the
    same and stay so, nobody wrote to it. `stamp` is its size and time before the two were read, `later_stamp` after that.
    """

    salts: str
    max_frame: int
    n_attempted: int
    n_copied: int
    stamp: str
    later_stamp: str
    wal: str
    shm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPosition:
    """Where a capture stopped: its mark, the page size in bytes, which file it was (`device:inode`), its size and time then.

    `sighting` is how the files were when that was noted, None where it is not known; `doubt` says why they are not to be
    trusted any more, empty when they are.
    """

    mark: Mark
    page_size: int
    source: str
    stamp: str
    sighting: Sighting | None = None
    doubt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there now. `said` is the checksum that the log has for the mark's frame, None when it has no such frame.

    `behind_seconds`: how far the clock is behind the time of the last commit. `restored_online`: a restore wrote another
    state into the live file while nobody held its log. `unlike`: a page that a checkpoint copied back and that the database
    file does not have as the log has it, 0 when none is known.
    """

    salts: str
    max_frame: int
    page_size: int
    source: str
    stamp: str
    said: tuple[int, int] | None
    behind_seconds: float = 0.0
    restored_online: bool = False
    sighting: Sighting | None = None
    unlike: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    verdict: Continuity
    reason: str


def judge_continuity(stood: LastPosition | None, found: Found) -> Judgement:
    """Compare what was left with what is found, after a time in which nobody held the log.

    The same salts and the same checksum at the mark prove that the log was not restarted meanwhile: nothing is lost. Other
    salts say that it was, and how far it had come before that nobody can tell. A log that is shorter than what was captured,
    or has something else there, has forgotten commits: what follows is another history, as it is behind whoever wrote the
    files without SQLite.
    """
    if stood is None:
        return Judgement(verdict=Continuity.NEW_TIMELINE, reason="capture begins")
    another = _another(stood, found)
    if another:
        return Judgement(verdict=Continuity.NEW_TIMELINE, reason=another)
    if not stood.mark.salts:  # its beginning failed before anything of it was durable
        return Judgement(verdict=Continuity.HOLE, reason="capture begins")
    if stood.mark.salts == NO_SALTS:
        return _after_none(stood, found)
    bypassed = _bypassed_meanwhile(stood, found)
    if bypassed:
        return Judgement(verdict=Continuity.NEW_TIMELINE, reason=f"{BYPASSED}{bypassed}")
    if stood.mark.salts != found.salts:
        return Judgement(verdict=Continuity.HOLE, reason="SQLite restarted the write-ahead log while capture was not attached")
    return Judgement(verdict=Continuity.GO_ON, reason="the log is the one that was captured")


def bypassed(before: Sighting, now: Sighting, *, is_drawn: bool) -> str:
    """Say what in the files was not SQLite's doing between two looks under a pin, empty when all may have been.

    Under a pin nobody deletes the log or its index, and a log is restarted only when it was wholly read and copied back: the
    first salt then grows by one. `is_drawn`: its header was written by a connection that had restarted none (`TRUNCATE` by
    another one leaves it to that): that one draws both salts.
    """
    if now.wal != before.wal or now.shm != before.shm:
        name = "-wal" if now.wal != before.wal else "-shm"
        return f"the {name} was {'replaced by another file' if (now.wal if name == '-wal' else now.shm) else 'deleted'}"
    if now.salts != before.salts:
        return "" if _may_follow(before.salts, now, is_drawn=is_drawn) else "the log cannot follow the one before it"
    if now.max_frame < before.max_frame:
        return f"the log ends at frame {now.max_frame}, {before.max_frame} were captured"
    return _written(before, now)


def _another(stood: LastPosition, found: Found) -> str:
    """Say what makes it another history, whatever the log says."""
    if stood.source != found.source:
        return "the database file was replaced, as by a restore"
    if found.restored_online:
        return "another state was restored into the live file (restore --online)"
    if stood.page_size != found.page_size:
        return f"the page size changed from {stood.page_size} to {found.page_size} bytes"
    if stood.doubt:
        return f"{BYPASSED}{stood.doubt}"
    if found.behind_seconds > MAX_BEHIND_SECONDS:
        return f"the clock was set back by {found.behind_seconds:.0f} s"
    mark = stood.mark
    is_shorter = found.max_frame < mark.frame or (mark.frame and found.said != mark.checksum)
    if mark.salts == found.salts != NO_SALTS and is_shorter:
        return f"the log lost its end: frame {mark.frame} was captured, and is not there as it was"
    return ""


def _bypassed_meanwhile(stood: LastPosition, found: Found) -> str:
    """Say what was not SQLite's doing while nobody looked, as far as that can be told."""
    before, now = stood.sighting, found.sighting
    if stood.mark.salts != found.salts:
        if found.salts != NO_SALTS and -MAX_STEPS <= _steps(stood.mark.salts, found.salts) <= 0:
            return "the log is an older one than the one that was captured"
        is_lost = before is not None and before.salts == stood.mark.salts and before.n_attempted < before.max_frame
        if is_lost and before is not None and before.later_stamp == found.stamp:
            return "the log is gone, and its frames were never copied back"
        return ""
    if found.unlike:
        return f"page {found.unlike} was copied back from the log, and the database file has another one"
    if before is None or now is None or before.salts != now.salts:
        return ""
    if before.wal != now.wal:
        return "the -wal was replaced by another file"
    return _written(before, now)


def _written(before: Sighting, now: Sighting) -> str:
    """Say that the database file was written without a checkpoint, of two looks at the same log."""
    none_since = before.n_copied == before.n_attempted == now.n_attempted
    if none_since and before.later_stamp != now.stamp:
        return "the database file was written without a checkpoint"
    return ""


def _may_follow(salts: str, now: Sighting, *, is_drawn: bool) -> bool:
    if salts == NO_SALTS:
        return True
    if now.salts == NO_SALTS:  # an empty log whose index was made again
        return not now.max_frame
    steps = _steps(salts, now.salts)
    return 1 <= steps <= MAX_STEPS or (is_drawn and not -MAX_STEPS <= steps <= 0)


def _steps(before: str, after: str) -> int:
    """Return how far the first salt went, modulo 2**32: below zero when it went back."""
    steps = (int(after[:8], 16) - int(before[:8], 16)) & 0xFFFFFFFF
    return steps - (1 << 32) if steps >> 31 else steps


def _after_none(stood: LastPosition, found: Found) -> Judgement:
    """Judge a log after one that was never written: it is the next one when nothing was copied back into the file since."""
    if stood.stamp == found.stamp:
        return Judgement(verdict=Continuity.GO_ON, reason="the log is the first since capture stopped")
    return Judgement(verdict=Continuity.HOLE, reason="the database file was written while capture was not attached")
