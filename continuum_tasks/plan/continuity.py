"""Decide whether a database's log goes on where its capture stopped. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from continuum_tasks.model import Mark

NO_SALTS = "0" * 16


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
    """What is there now. `said` is the checksum that the log has for the mark's frame, None when it has no such frame."""

    salts: str
    max_frame: int
    page_size: int
    source: str
    stamp: str
    said: tuple[int, int] | None


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
    if stood.page_size != found.page_size:
        reason = f"the page size changed from {stood.page_size} to {found.page_size} bytes"
        return Judgement(verdict=Verdict.NEW_TIMELINE, reason=reason)
    if stood.mark.salts != found.salts:
        return Judgement(verdict=Verdict.HOLE, reason="the log was begun anew while nobody held it")
    if not found.max_frame and found.salts == NO_SALTS and stood.stamp != found.stamp:
        reason = "the log was removed and the database file written while nobody held it"
        return Judgement(verdict=Verdict.HOLE, reason=reason)
    if found.max_frame < stood.mark.frame or (stood.mark.frame and found.said != stood.mark.checksum):
        reason = f"the log lost its end: frame {stood.mark.frame} was captured, and is not there as it was"
        return Judgement(verdict=Verdict.NEW_TIMELINE, reason=reason)
    return Judgement(verdict=Verdict.GO_ON, reason="the log is the one that was captured")
