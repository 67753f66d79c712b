"""What every test process starts from, whoever started it."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take SIGINT again: a shell starts what it puts in the background with it ignored, and every child inherits that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
