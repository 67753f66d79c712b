from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.layer.format import lock_page
from continuum_tasks.layer.reader import claim_pages, owned


@given(n_pages=st.integers(1, 40), layers=st.lists(st.sets(st.integers(1, 50), max_size=20), max_size=6))
def test_the_newest_layer_that_has_a_page_owns_it_and_the_base_the_rest(n_pages: int, layers: list[set[int]]):
    owners = memoryview(array("I", [0]) * n_pages)

    for ordinal, pgnos in enumerate(layers, 1):
        claim_pages(owners, array("I", sorted(pgnos)), ordinal)

    for pgno in range(1, n_pages + 1):
        assert owners[pgno - 1] == max((n for n, pgnos in enumerate(layers, 1) if pgno in pgnos), default=0)


@given(owners=st.lists(st.integers(0, 2), min_size=1, max_size=30), first=st.integers(1, 35), n_pages=st.integers(1, 30))
def test_owned_gives_the_pages_of_one_layer_as_the_longest_runs(owners: list[int], first: int, n_pages: int):
    page_size = 4
    pages = memoryview(b"".join(pgno.to_bytes(page_size, "big") for pgno in range(first, first + n_pages)))

    runs = list(owned([(first, pages)], memoryview(array("I", owners)), ordinal=1, page_size=page_size))

    found = [
        (start + n, int.from_bytes(run[n * page_size : (n + 1) * page_size], "big"))
        for start, run in runs
        for n in range(len(run) // page_size)
    ]
    assert found == [(p, p) for p in range(first, first + n_pages) if p <= len(owners) and owners[p - 1] == 1]
    assert all(start + len(run) // page_size < following for (start, run), (following, _) in pairwise(runs))


@pytest.mark.parametrize(("page_size", "pgno"), [(512, 2097153), (4096, 262145), (65536, 16385)])
def test_the_lock_page_holds_byte_0x40000000(page_size: int, pgno: int):
    assert lock_page(page_size) == pgno
    assert (pgno - 1) * page_size <= 0x40000000 < pgno * page_size
