from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest


@pytest.fixture
def peak_bytes() -> Callable[[Callable[[], object]], int]:
    """Give a function that runs another and returns the most memory it held at one time."""

    def measure(run: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            run()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure
