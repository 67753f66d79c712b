"""Decide whether a database's log goes on where its capture stopped. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from continuum_tasks.model import Mark

NO_SALTS = "0" * 16
MAX_BEHIND_SECONDS = 60.0


class Verdict(StrEnum):
    """What capture does: read on from its mark, declare a hole on the same timeline, or begin a new timeline."""

    GO_ON = "go on"
    HOLE = "hole"
    NEW_TIMELINE = "new timeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stood:
    """Where a capture stopped: its mark, the page size in bytes, which file it was (`device:inode`), its size and time then."""

    mark: Mark
    page_size: int
    source: str
    stamp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there now. `said` is the checksum that the log has for the mark's frame, None when it has no such frame.

    `behind_seconds`: how far the clock is behind the time of the last commit. `restored_online`: a restore wrote another
    state into the live file while nobody held its log.
    """

    salts: str
    max_frame: int
    page_size: int
    source: str
    stamp: str
    said: tuple[int, int] | None
    behind_seconds: float = 0.0
    restored_online: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    verdict: Verdict
    reason: str


def judge(stood: Stood | None, found: Found) -> Judgement:
    """Compare what was left with what is found, after a time in which nobody held the log.

    The same salts and the same checksum at the mark prove that the log was not begun anew meanwhile: nothing is lost. Other
    salts say that it was, and how far it had come before that nobody can tell. A log that is shorter than what was captured,
    or has something else there, has forgotten commits: what follows is another history.
    """
    if stood is None:
        return Judgement(verdict=Verdict.NEW_TIMELINE, reason="capture begins")
    if stood.source != found.source:
        return Judgement(verdict=Verdict.NEW_TIMELINE, reason="the database file was replaced, as by a restore")
    if found.restored_online:
        return Judgement(
            verdict=Verdict.NEW_TIMELINE, reason="another state was restored into the live file (restore --online)"
        )
    if stood.page_size != found.page_size:
        reason = f"the page size changed from {stood.page_size} to {found.page_size} bytes"
        return Judgement(verdict=Verdict.NEW_TIMELINE, reason=reason)
    if found.behind_seconds > MAX_BEHIND_SECONDS:
        reason = f"the clock was set back by {found.behind_seconds:.0f} s"
        return Judgement(verdict=Verdict.NEW_TIMELINE, reason=reason)
    if stood.mark.salts == NO_SALTS:
        return _after_none(stood, found)
    if stood.mark.salts != found.salts:
        return Judgement(verdict=Verdict.HOLE, reason="the log was begun anew while nobody held it")
    if found.max_frame < stood.mark.frame or (stood.mark.frame and found.said != stood.mark.checksum):
        reason = f"the log lost its end: frame {stood.mark.frame} was captured, and is not there as it was"
        return Judgement(verdict=Verdict.NEW_TIMELINE, reason=reason)
    return Judgement(verdict=Verdict.GO_ON, reason="the log is the one that was captured")


def _after_none(stood: Stood, found: Found) -> Judgement:
    """Judge a log after one that was never written: it is the next one when nothing was copied back into the file since."""
    if stood.stamp == found.stamp:
        return Judgement(verdict=Verdict.GO_ON, reason="the log is the first since capture stopped")
    return Judgement(verdict=Verdict.HOLE, reason="the database file was written while nobody held its log")
