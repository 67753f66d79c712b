from __future__ import annotations

from itertools import count

from continuum_tasks.layer.writer import write_chunk
from tests.support import layer_objects as objects


def test_a_clock_is_asked_around_hash_codec_and_seal_and_changes_no_byte() -> None:
    pages = memoryview(bytes(64 * 4096) * 2)  # two blocks
    options = objects.options()
    plain = write_chunk([(1, pages)], context=objects.CONTEXT, options=options)
    ticks = count()
    timed = write_chunk([(1, pages)], context=objects.CONTEXT, options=options, clock=lambda: float(next(ticks)))
    costs = timed.costs
    assert (costs.hash_seconds, costs.compress_seconds, costs.seal_seconds) == (1, 3, 3)  # one run; two blocks and the index
    assert (plain.costs.hash_seconds, plain.costs.compress_seconds, plain.costs.seal_seconds) == (0, 0, 0)
    assert timed.data == plain.data
