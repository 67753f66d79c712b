"""`python -m tests.capture.stored CONFIG_DIR DATABASE`: print a JSON line per captured commit, read from the segments.

The one place of the harness that knows how the product stores commits: which there are cannot be told from outside without
restoring each. That they restore to what they should be is proven apart from this, by the command line and the oracle.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from continuum_tasks.config import load_config
from continuum_tasks.repository.timelines import list_segments, read_segment, read_timelines
from continuum_tasks.runtime import open_runtime
from continuum_tasks.segment.reader import OpenedSegment
from continuum_tasks.segment.rules import check_follows
from tests.capture import workload


def commits(directory: Path, database: str) -> Iterator[dict[str, Any]]:
    with open_runtime(load_config(directory)) as runtime:
        repository = runtime.repository()
        for timeline in read_timelines(repository, database):
            before = None
            for ref in list_segments(repository, timeline):
                segment = read_segment(repository, timeline, ref)
                check_follows(before, segment.head)
                before = segment.head
                yield from _of(segment, timeline.id, ref.key)


def _of(segment: OpenedSegment, timeline: str, key: str) -> Iterator[dict[str, Any]]:
    page_1 = {position: workload.number_in(page) for position, pgno, page in segment.pages() if pgno == 1}
    for commit in segment.head.commits:
        # a position per page, rising within a commit: page 1, when it is there, is the first
        n = page_1[segment.span(commit.number).start]
        times = {"observed_us": commit.observed_us, "unseen_us": commit.unseen_us}
        yield {"timeline": timeline, "number": commit.number, "n": n, "resumed": commit.resumed, "key": key, **times}


if __name__ == "__main__":
    for one in commits(Path(sys.argv[1]), sys.argv[2]):
        print(json.dumps(one))
