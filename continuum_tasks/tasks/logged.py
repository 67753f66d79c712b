"""What every task of the workers is: an error of ours that ends it is one line in the log, with its hint, and no traceback."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task

from continuum_tasks.errors import ContinuumError

_log = logging.getLogger(__name__)


class LoggedTask(Task):  # type: ignore[type-arg]  # takes its arguments in stubs alone
    """A task whose documented errors are no defects: only others are logged as unexpected, with where they came from."""

    abstract = True
    throws = (ContinuumError,)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Log an error of ours; Celery logs the others."""
        if isinstance(exc, ContinuumError):
            of = f" {args[0]}" if args else ""
            hint = f" ({exc.hint})" if exc.hint else ""
            name = str(self.name).removeprefix("continuum.")
            _log.error("%s%s: %s: %s%s", name, of, type(exc).__name__, exc.message, hint)
