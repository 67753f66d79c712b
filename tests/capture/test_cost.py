"""What capture costs: how long until a commit is safe, and nothing while nothing happens."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.capture import crew, product
from tests.capture.product import await_captured
from tests.capture.service import service
from tests.capture.sizes import IDLE_SECONDS, LAG_SECONDS

_INTERVAL_SECONDS = 1.0
_COMMITS_A_SECOND = 100.0
_SETTLE_SECONDS = 4.0


@pytest.mark.proof
@pytest.mark.alone
def test_half_of_all_commits_are_in_the_storage_within_1_2_intervals(scratch: Path) -> None:
    """Measured from outside: from COMMIT's return in the writer to the segment's name in the storage's directory."""
    host = product.make(scratch / "h1", product.Options(capture="capture_interval = 1s"))
    plan = crew.Plan(
        page_size=4096, seconds=LAG_SECONDS, seed=2, hostile=(), kill_writers=False, n_writers=1, rate=_COMMITS_A_SECOND
    )
    with host.captured() as agent:
        product.await_base(host)
        cpu = product.cpu_seconds(agent.process.pid)
        story = crew.run(host.database, plan)
        cpu = product.cpu_seconds(agent.process.pid) - cpu
        stored = await_captured(host, story.final)
        said = host.status()
        agent.terminate()
    durable_ns = {path.name: path.stat().st_ctime_ns for path in host.store.rglob("*.segment")}
    key_of = {one.n: Path(one.key).name for one in stored}
    lags = [(durable_ns[key_of[n]] - at) / 1e9 for n, at in story.witnessed.items() if n in key_of]
    p95 = quantiles(lags, n=20)[-1]
    print(
        f"\n{len(lags)} commits in {LAG_SECONDS:.0f} s: lag median {median(lags):.2f} s, 95 % {p95:.2f} s,"
        f" most {max(lags):.2f} s; said {said['lag_p50_seconds']} and {said['lag_p95_seconds']} s; {cpu:.2f} s of CPU"
    )
    assert median(lags) < 1.2 * _INTERVAL_SECONDS
    assert len(lags) == len(story.witnessed)


@pytest.mark.sampled
def test_an_idle_database_costs_no_request_and_next_to_no_processor_time(scratch: Path) -> None:
    host = product.make(scratch / "h1")
    with service(host.database) as busy, host.captured() as agent:
        busy.tell("hold")
        await_captured(host, busy.commit(3))
        product.await_base(host)
        time.sleep(_SETTLE_SECONDS)
        before = _touched(host.store)
        requests, cpu = host.status()["n_requests"], product.cpu_seconds(agent.process.pid)
        time.sleep(IDLE_SECONDS)
        cpu = product.cpu_seconds(agent.process.pid) - cpu
        after = _touched(host.store)
        assert host.status()["n_requests"] == requests
        agent.terminate()
    print(f"\n{IDLE_SECONDS:.0f} s idle: {cpu:.2f} s of CPU ({cpu / IDLE_SECONDS:.2%})")
    assert after == before
    assert cpu < 0.05 * IDLE_SECONDS


def _touched(store: Path) -> dict[Path, tuple[int, int]]:
    """Return when each stored object was last read and changed, as far as the kernel notes it."""
    return {path: (path.stat().st_atime_ns, path.stat().st_ctime_ns) for path in store.rglob("*") if path.is_file()}
