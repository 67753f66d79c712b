"""Saturated writers, hostile checkpointers, VACUUM, closes and kills: what the product has is what was committed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.capture import crew, expected, product, verdict, workload
from tests.capture.sizes import N_SAMPLES, STRESS_SECONDS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page_size", workload.PAGE_SIZES)
def test_every_commit_is_captured_or_inside_a_declared_hole(scratch: Path, page_size: int) -> None:
    host = product.make(scratch / "h1", product.Options(page_size=page_size))
    plan = crew.Plan(page_size=page_size, seconds=STRESS_SECONDS, seed=page_size)
    with host.captured(seed=page_size) as agent:
        story = crew.run(host.database, plan, meanwhile=agent.endanger)
        agent.wait_ready()
        agent.terminate()
    stored = host.stored()
    judged = verdict.judge(product.as_seen(stored), final=story.final, witnessed=story.witnessed)
    figures = f"{story.n_kills} writers and {agent.n_kills} agents killed, WAL peak {story.wal_peak_bytes / 1e6:.1f} MB"
    print(f"\n{page_size}: {judged}; {figures}")
    assert judged.is_sound, f"{judged}\n{host.log()}"
    assert judged.n_holes <= agent.n_kills


def test_without_kills_of_the_agent_there_is_no_hole(scratch: Path) -> None:
    host = product.make(scratch / "h1")
    with host.captured() as agent:
        story = crew.run(host.database, crew.Plan(page_size=4096, seconds=STRESS_SECONDS, seed=3))
        agent.terminate()
    judged = verdict.judge(product.as_seen(host.stored()), final=story.final, witnessed=story.witnessed)
    print(f"\n4096, agent not killed: {judged}; WAL peak {story.wal_peak_bytes / 1e6:.1f} MB")
    assert judged.is_sound, f"{judged}\n{host.log()}"
    assert judged.n_holes == 0, host.log()


@pytest.mark.parametrize("page_size", workload.PAGE_SIZES)
def test_sampled_commits_restore_to_what_the_oracle_says(scratch: Path, page_size: int) -> None:
    host = product.make(scratch / "h1", product.Options(page_size=page_size))
    plan = crew.Plan(page_size=page_size, seconds=STRESS_SECONDS, seed=page_size + 1)
    with host.captured(seed=page_size) as agent:
        product.await_base(host)
        crew.run(host.database, plan, meanwhile=agent.endanger)
        agent.wait_ready()
        product.await_base(host)
        agent.terminate()
    stored = [one for one in host.stored() if not one.resumed]
    chosen = [stored[-1], *Random(5).sample(stored, min(len(stored), N_SAMPLES))]
    right = expected.hashes({one.n for one in chosen}, page_size=page_size)
    found = host.hashes_at([(one.timeline, one.number) for one in chosen], scratch / "restored.db")
    wrong = [one for one, sha256 in zip(chosen, found, strict=True) if sha256 != right[one.n]]
    assert not wrong
