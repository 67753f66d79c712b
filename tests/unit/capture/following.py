"""A capture that has begun, commits for it, and a storage that can be away."""

from __future__ import annotations

import time

from continuum_tasks.capture.reader.follower import CommitFollower
from continuum_tasks.capture.reader.sealing import data_key
from continuum_tasks.errors import StorageUnreachable
from continuum_tasks.model import Commit
from continuum_tasks.repository.timelines import segment_context
from continuum_tasks.segment.reader import OpenedSegment, open_segment
from continuum_tasks.storage.memory import MemoryStorage
from continuum_tasks.storage.protocol import Buffer
from tests.support.service import Service
from tests.unit.capture.conftest import Setting


def begun(setting: Setting, **capture: int) -> CommitFollower:
    follower = setting.follower(**capture)
    judgement = follower.begin(watched_until_us=0)
    assert judgement is not None and follower.holds
    while follower.base.busy:
        assert follower.base.step() is None
        time.sleep(0.01)
    return follower


def insert(service: Service, n: int) -> None:
    service.run(*(f"INSERT INTO t(x) VALUES (hex(randomblob({50 + one})))" for one in range(n)))


class Away(MemoryStorage):
    """A storage that can be away."""

    away = False

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        if self.away:
            raise StorageUnreachable("away")
        super().put(key, data, only_new=only_new)


def commits(follower: CommitFollower, setting: Setting) -> list[Commit]:
    return [commit for segment in spooled(follower, setting) for commit in segment.index.head.commits]


def spooled(follower: CommitFollower, setting: Setting) -> list[OpenedSegment]:
    """Open what is in the spool, each proven to be what it says."""
    assert follower.standing is not None
    timeline, key, spool = follower.standing.timeline, data_key(follower.standing, place=setting.place), follower.spool()
    assert spool is not None
    return [
        open_segment(
            one.path.read_bytes(), context=segment_context(timeline, one.seq, one.seq), data_key=key, name=one.path.name
        )
        for one in spool.waiting()
    ]
