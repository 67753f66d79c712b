"""Beat's scheduler: Celery's own, and a sign of life from the very loop that sends."""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler

from workers.settings import this_config
from workers.steps import BEAT_POOL, report_pool


class Timetable(PersistentScheduler):
    """Sends what is due; a loop that hangs stops reporting."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        report_pool(this_config(), BEAT_POOL, queue="")
        return float(super().tick(*args, **kwargs))
