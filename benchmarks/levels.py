"""Codecs and levels on pages of the sample: the table behind the default level."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import database, report
from continuum_tasks.config.settings import DEFAULT_LEVELS
from continuum_tasks.layer.codec import compress, decompress
from continuum_tasks.layer.format import BLOCK_BYTES
from continuum_tasks.model import Codec

SAMPLED_BYTES = 64 << 20
LEVELS = (
    *((Codec.ZSTD, level) for level in (-1, 1, 2, 3, 5, 7, 9)),
    *((Codec.LZ4, level) for level in (0, 3)),
    *((Codec.GZIP, level) for level in (1, 6)),
)
_TIMES = 5  # the best of them: what else runs on the machine only ever makes one slower
_SEND = {"100 MB/s": 100e6, "25 MB/s": 25e6}


def run(size_bytes: int) -> str:
    """Return a table of ratio and speed by codec and level, over blocks taken evenly from a sample of this size."""
    blocks = list(_blocks(database.sample(size_bytes)))
    threads = os.cpu_count() or 1
    head = (
        "",
        "ratio",
        "MB/s, 1 thread",
        f"MB/s, {threads} threads",
        "back MB/s",
        *(f"1 GiB sent at {name}" for name in _SEND),
    )
    rows = [head, *(_row(codec, level, blocks, threads) for codec, level in LEVELS)]
    return f"{len(blocks)} blocks of {BLOCK_BYTES // 1024} KiB, the best of {_TIMES} tries\n\n{report.table(rows)}"


def _row(codec: Codec, level: int, blocks: Sequence[bytes], threads: int) -> tuple[str, ...]:
    packed = [bytes(compress(codec, level, block)) for block in blocks]
    ratio = sum(map(len, packed)) / sum(map(len, blocks))
    one = _speed(lambda: [compress(codec, level, block) for block in blocks], blocks)
    with ThreadPoolExecutor(threads) as pool:
        several = _speed(lambda: list(pool.map(lambda block: len(compress(codec, level, block)), blocks, chunksize=4)), blocks)
    back = _speed(lambda: [decompress(codec, data, raw_bytes=BLOCK_BYTES) for data in packed], blocks)
    # Compressing and sending go on side by side: the slower one counts.
    sent = [max((1 << 30) / several, (1 << 30) * ratio / rate) for rate in _SEND.values()]
    default = " (default)" if (codec, level) == (Codec.ZSTD, DEFAULT_LEVELS[Codec.ZSTD]) else ""
    figures = (f"{ratio:.3f}", *(f"{speed / 1e6:,.0f}" for speed in (one, several, back)), *(f"{s:.1f} s" for s in sent))
    return (f"{codec} {level}{default}", *figures)


def _speed(work: Callable[[], object], blocks: Sequence[bytes]) -> float:
    seconds = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return sum(map(len, blocks)) / min(seconds)


def _blocks(path: Path) -> Iterator[bytes]:
    n_blocks = path.stat().st_size // BLOCK_BYTES
    step = max(1, n_blocks * BLOCK_BYTES // SAMPLED_BYTES)
    with path.open("rb") as file:
        for number in range(0, n_blocks, step):
            file.seek(number * BLOCK_BYTES)
            yield file.read(BLOCK_BYTES)
