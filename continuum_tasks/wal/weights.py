"""What each word adds to SQLite's two-word checksum. Pure.

The checksum of a log's frames (https://sqlite.org/walformat.html, "Checksum Algorithm") and that of a page where pages have
one (https://sqlite.org/cksumvfs.html) are the same linear recurrence modulo 2**32: a fixed weighted sum of the words.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]


@lru_cache(maxsize=16)
def weights(n_words: int) -> tuple[Words, Words]:
    """Return what each of `n_words` words adds to the two halves of the checksum, and what the state before them does.

    Two words (x, y) turn (s, t) into (s + t + x, s + 2t + x + y).
    """
    found = np.zeros((2, n_words), dtype=np.uint32)
    power = ((1, 0), (0, 1))
    for at in range(n_words - 2, -1, -2):
        (a, b), (c, d) = power
        # The words (x, y) enter as (x, x + y) and go through all the turns that follow.
        found[:, at] = (a + b) & 0xFFFFFFFF, (c + d) & 0xFFFFFFFF
        found[:, at + 1] = b, d
        power = (_turn(a, b), _turn(c, d))
    return found, np.array(power, dtype=np.uint32)


def _turn(a: int, b: int) -> tuple[int, int]:
    """Return the row (a, b) times the matrix ((1, 1), (1, 2)) of one turn."""
    return (a + b) & 0xFFFFFFFF, (a + 2 * b) & 0xFFFFFFFF
