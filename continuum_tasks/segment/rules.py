"""What holds inside a segment (docs/SEGMENT_FORMAT.md, rules 7 to 13), and between two of them."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from continuum_tasks.errors import ObjectDamaged
from continuum_tasks.layer.format import MAX_PGNO, check_rules, lock_page
from continuum_tasks.model import Commit
from continuum_tasks.segment.chain import CHAIN_BYTES, NO_CHAIN, chain_all
from continuum_tasks.segment.head import SegmentDraft, SegmentHead, SegmentIndex

BEYOND = 1 << 53  # seqs, numbers and times stay exact in JSON
MAX_REASON_BYTES = 500
_SOURCE = re.compile(r"(?:0|[1-9]\d{0,19}):(?:0|[1-9]\d{0,19})", re.ASCII)
_SALTS = re.compile(r"[0-9a-f]{16}")


def check_draft(draft: SegmentDraft) -> None:
    """Check rules 7 to 12, and that every text has its form. Raises ValueError."""
    forms = (
        (len(draft.before) == CHAIN_BYTES, "the chain before it has another length"),
        (bool(_SALTS.fullmatch(draft.mark.salts)), "the salts are not 16 hex digits"),
        (all(0 <= number < 1 << 32 for number in (draft.mark.frame, *draft.mark.checksum)), "the mark is out of range"),
        (_is_source(draft.source), "the source is not a device and an inode"),
    )
    check_rules(forms, f"segment {seqs_text(draft)}")
    _check_numbers(draft)
    _check_commits(draft.commits)
    _check_pgnos(draft.commits, draft.pgnos, lock_page(draft.page_size))
    _check_reasons(draft)


def check_index(index: SegmentIndex) -> None:
    """Check rules 7 to 13. Raises ValueError."""
    head = index.head
    _check_numbers(head)
    _check_commits(head.commits)
    _check_pgnos(head.commits, index.pgnos, lock_page(head.page_size))
    _check_reasons(head)
    if chain_all(head.before, head.commits, index.pgnos, index.digests) != head.after:
        raise ValueError("the chain does not go through its commits")


def check_follows(previous: SegmentHead | None, this: SegmentHead) -> None:
    """Raise ObjectDamaged unless `this` comes right after `previous`, or is a timeline's first for None."""
    broken = next((what for holds, what in _following(previous, this) if not holds), None)
    if broken is not None:
        after = f"segment {seqs_text(previous)}" if previous else "the timeline's start"
        raise ObjectDamaged(
            f"timeline {this.timeline}: segment {seqs_text(this)} does not follow {after}: {broken}",
            hint="a segment is missing or comes from elsewhere: restore a commit before it, or a backup made after it",
        )


def seqs_text(head: SegmentHead | SegmentDraft) -> str:
    """Return the segment's seqs as text: 7, or 3-6 of a merged one."""
    return f"{head.first_seq}" if head.first_seq == head.last_seq else f"{head.first_seq}-{head.last_seq}"


def _is_source(text: str) -> bool:
    return bool(_SOURCE.fullmatch(text)) and all(int(number) < 1 << 64 for number in text.split(":"))


def _following(previous: SegmentHead | None, this: SegmentHead) -> Iterator[tuple[bool, str]]:
    if previous is None:
        yield this.first_seq == 1, "it is not the first"
        return
    first, last = this.commits[0], previous.commits[-1]
    yield this.timeline == previous.timeline, f"that is of timeline {previous.timeline}"
    yield this.page_size == previous.page_size, f"pages of {this.page_size} bytes after pages of {previous.page_size}"
    yield this.first_seq == previous.last_seq + 1, "segments between them are missing, or it is there twice"
    yield first.number == last.number + 1, f"commit {first.number} after commit {last.number}"
    yield first.observed_us >= last.observed_us, f"commit {first.number} was seen before commit {last.number}"
    yield this.before == previous.after, "it continues another past"


def _check_numbers(head: SegmentHead | SegmentDraft) -> None:
    first, n_commits = (head.commits[0].number if head.commits else 0), len(head.commits)
    starts = {head.first_seq == 1, first == 1, head.before == NO_CHAIN}
    rules = (
        (1 <= head.first_seq <= head.last_seq < BEYOND, "number out of range"),
        (head.last_seq - head.first_seq < n_commits, "fewer commits than segments"),
        (head.first_seq <= first < BEYOND - n_commits, "number of the first commit out of range"),
        (len(starts) == 1, "seq, commit number and chain do not agree whether the timeline starts here"),
    )
    check_rules(rules, f"segment {seqs_text(head)}")


def _check_commits(commits: Sequence[Commit]) -> None:
    seen_us = 0
    for number, commit in enumerate(commits, commits[0].number):
        span = commit.last_frame - commit.first_frame + 1
        rules = (
            (commit.number == number, f"has number {commit.number}"),
            (commit.n_stored >= 1, "has no page"),
            (1 <= commit.n_pages <= MAX_PGNO, "database size out of range"),
            (seen_us <= commit.observed_us < BEYOND, "time out of range, or before that of the commit before"),
            (0 <= commit.unseen_us <= commit.observed_us, "was not looked for since before 1970"),
            (number > 1 or (commit.resumed and not commit.unseen_us), "does not begin a timeline"),
            (not commit.resumed or (commit.first_frame, commit.last_frame) == (0, 0), "is resumed and has frames"),
            (commit.resumed or (1 <= commit.first_frame <= commit.last_frame < 1 << 32), "frames out of range"),
            (commit.resumed or commit.n_stored <= span, "more pages than frames"),
        )
        check_rules(rules, f"commit {number}")
        seen_us = commit.observed_us


def _check_pgnos(commits: Sequence[Commit], pgnos: array[int], locked: int) -> None:
    ends = list(accumulate((commit.n_stored for commit in commits), initial=0))
    if ends[-1] != len(pgnos):
        raise ValueError(f"the commits hold {ends[-1]} pages where there are {len(pgnos)}")
    if not 1 <= min(pgnos) <= max(pgnos) <= MAX_PGNO or locked in pgnos:
        raise ValueError("a page number is out of range or the lock page's")
    falls = {at for at, (one, two) in enumerate(pairwise(pgnos), 1) if two <= one}
    if not falls <= set(ends):
        raise ValueError("the page numbers of a commit do not rise")


def _check_reasons(head: SegmentHead | SegmentDraft) -> None:
    resumed = {commit.number for commit in head.commits if commit.resumed}
    numbers = [number for number, _ in head.reasons]
    rules = (
        (resumed >= set(numbers), "are of commits that are not resumed"),
        (all(one < two for one, two in pairwise(numbers)), "are not in order"),
        (all(1 <= len(text.encode()) <= MAX_REASON_BYTES for _, text in head.reasons), "are empty or too long"),
    )
    check_rules(rules, "the reasons of holes")
