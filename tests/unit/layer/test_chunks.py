"""How pages are cut into chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.layer.writer import Slice, split


@given(
    n_pages=st.integers(0, 20_000),
    page_size=st.integers(9, 16).map(lambda bits: 2**bits),
    chunk_bytes=st.integers(0, 2**25),
)
def test_slices_cover_every_page_once_in_order_and_none_is_empty_or_too_large(
    n_pages: int, page_size: int, chunk_bytes: int
) -> None:
    slices = split(n_pages, page_size=page_size, chunk_bytes=max(chunk_bytes, page_size * n_pages // 500))

    assert [s.start for s in slices] == [0, *(s.stop for s in slices[:-1])][: len(slices)]
    assert (slices[-1].stop if slices else 0) == n_pages
    most = max(1, max(chunk_bytes, page_size * n_pages // 500) // page_size)
    assert all(0 < s.stop - s.start <= most for s in slices)
    assert all(s.stop - s.start == most for s in slices[:-1])


def test_no_pages_make_no_chunk() -> None:
    assert split(0, page_size=4096, chunk_bytes=1 << 20) == ()


def test_a_chunk_smaller_than_a_page_takes_one_page() -> None:
    assert split(2, page_size=65536, chunk_bytes=4096) == (Slice(start=0, stop=1), Slice(start=1, stop=2))
