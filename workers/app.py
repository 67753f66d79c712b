"""The Celery app of every worker, of beat and of Flower. Importing it reads and opens nothing; the first use does."""

from __future__ import annotations

from celery import Celery

from continuum_tasks.tasks.shell import LoggedTask
from workers import signals
from workers.settings import settings_of_this_process
from workers.signals import connect_remote
from workers.steps import STEPS

app = Celery("continuum", task_cls=LoggedTask)
app.add_defaults(settings_of_this_process)
app.steps["consumer"].update(STEPS)
signals.connect_signals()
connect_remote()
