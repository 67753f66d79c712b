"""Which cases of a matrix run: a sample that a seed decides in `make test`, all of them in `make proof`.

CONTINUUM_TEST_SEED draws another sample (the header of every run prints the seed); CONTINUUM_TEST_PROOF=1 takes all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations, product
from random import Random
from typing import Any

SEED = int(os.environ.get("CONTINUUM_TEST_SEED") or "1")
WHOLE = os.environ.get("CONTINUUM_TEST_PROOF", "") == "1"


def random_for(name: str) -> Random:
    """Return the random numbers of one test: the same for the same seed, whichever process runs it."""
    return Random(f"{SEED} {name}")


def matrix(name: str, *axes: Sequence[Any], whole: bool = WHOLE) -> list[tuple[Any, ...]]:
    """Return rows of the product of the axes; all of them in a proof.

    The sample has every value of two axes, and every pair of values of three or more.
    """
    rows = list(product(*map(list, axes)))
    if whole:
        return rows
    strength = 1 if len(axes) < 3 else 2
    columns = list(combinations(range(len(axes)), strength))
    shuffled = list(rows)
    random_for(name).shuffle(shuffled)
    covered: set[tuple[tuple[int, ...], tuple[Any, ...]]] = set()
    chosen = set()
    for wanted in range(len(columns), 0, -1):  # rows that add most come first
        for row in shuffled:
            new = {(at, tuple(row[one] for one in at)) for at in columns} - covered
            if len(new) >= wanted:
                chosen.add(row)
                covered |= new
    return [row for row in rows if row in chosen]
