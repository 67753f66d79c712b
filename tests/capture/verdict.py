"""Judge what a capturer has against what was committed: nothing lost outside a declared hole, nothing invented."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One captured commit: its own number, and the workload's number in its page 1. `resumed` ends a declared hole."""

    number: int
    n: int
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong (`lost`, `invented`, `disordered`: all empty is right) and what the declared holes cost."""

    n_committed: int
    n_captured: int
    n_holes: int
    n_in_holes: int
    lost: tuple[int, ...]
    invented: tuple[int, ...]
    disordered: tuple[int, ...]

    @property
    def is_sound(self) -> bool:
        return not (self.lost or self.invented or self.disordered)

    def __str__(self) -> str:
        return (
            f"{self.n_committed} committed, {self.n_captured} captured, {self.n_in_holes} inside {self.n_holes} holes,"
            f" {len(self.lost)} lost {self.lost[:5]}, {len(self.invented)} invented {self.invented[:5]},"
            f" {len(self.disordered)} out of order {self.disordered[:5]}"
        )


def judge(seen: Sequence[Seen], *, final: int, witnessed: Iterable[int]) -> Verdict:
    """Compare; numbers are 1 to `final` without gaps, since each writer adds one to the number it finds in its transaction.

    A commit that repeats its predecessor's number is a VACUUM or a return to WAL mode, not one of the workload.
    """
    assert max(witnessed, default=0) <= final, "the database itself lost a commit: the harness is broken"
    holes: list[range] = []
    disordered: list[int] = []
    at = seen[0].n if seen else 0
    for one in seen[1:]:
        if one.resumed:
            holes.append(range(at + 1, one.n))
        if one.n < at:
            disordered.append(one.number)
        at = max(at, one.n)
    captured = {one.n for one in seen}
    first = seen[0].n if seen else 0
    in_holes = {n for hole in holes for n in hole} - captured
    return Verdict(
        n_committed=final - first,
        n_captured=len(captured) - 1,
        n_holes=len(holes),
        n_in_holes=len(in_holes),
        lost=tuple(n for n in range(first, final + 1) if n not in captured and n not in in_holes),
        invented=tuple(sorted(n for n in captured if n > final)),
        disordered=tuple(disordered),
    )
