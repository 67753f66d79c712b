"""Saturated writers, hostile checkpointers, VACUUM, closes and kills: what the product has is what was committed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.capture import crew, expected, product, verdict, workload
from tests.capture.crew import Story
from tests.capture.product import Host, Stored
from tests.capture.sizes import N_SAMPLES, STRESS_SECONDS

pytestmark = pytest.mark.sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Stressed:
    """A host after a stress run: all is shipped, its capturing process has ended in good order."""

    host: Host
    page_size: int
    story: Story
    n_kills: int
    stored: tuple[Stored, ...]

    def judged(self) -> verdict.Verdict:
        return verdict.judge(product.as_seen(self.stored), final=self.story.final, witnessed=self.story.witnessed)


@pytest.fixture(scope="module", params=workload.PAGE_SIZES)
def stressed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stressed]:
    page_size: int = request.param
    directory = tmp_path_factory.mktemp(f"stress-{page_size}")
    host = product.make(directory / "h1", product.Options(page_size=page_size))
    plan = crew.Plan(page_size=page_size, seconds=STRESS_SECONDS, seed=page_size)
    with host.captured(seed=page_size) as agent:
        product.await_base(host)
        story = crew.run(host.database, plan, meanwhile=agent.endanger)
        agent.wait_ready()
        product.await_base(host)
        agent.terminate()
    yield Stressed(host=host, page_size=page_size, story=story, n_kills=agent.n_kills, stored=tuple(host.stored()))
    shutil.rmtree(directory, ignore_errors=True)


def test_every_commit_is_captured_or_inside_a_declared_hole(stressed: Stressed) -> None:
    judged = stressed.judged()
    killed = f"{stressed.story.n_kills} writers and {stressed.n_kills} agents killed"
    print(f"\n{stressed.page_size}: {judged}; {killed}, WAL peak {stressed.story.wal_peak_bytes / 1e6:.1f} MB")
    assert judged.is_sound, str(judged)
    assert judged.n_holes <= stressed.n_kills  # while it runs it has none


def test_sampled_commits_restore_to_what_the_oracle_says(stressed: Stressed, scratch: Path) -> None:
    """After a hole a commit can be restored from the first backup on; before that it is refused, and never given wrong."""
    ordinary = [one for one in stressed.stored if not one.resumed]
    chosen = sorted(
        {ordinary[-1], *Random(5).sample(ordinary, min(len(ordinary), N_SAMPLES))}, key=lambda one: (one.timeline, one.number)
    )
    right = expected.hashes({one.n for one in chosen}, page_size=stressed.page_size)
    found = list(stressed.host.hashes_at([(one.timeline, one.number) for one in chosen], scratch / "restored.db"))
    refused = [one for one, sha256 in zip(chosen, found, strict=True) if not sha256]
    wrong = [one for one, sha256 in zip(chosen, found, strict=True) if sha256 not in ("", right[one.n])]
    print(f"\n{stressed.page_size}: {len(chosen)} sampled, {len(refused)} refused: between a hole and the backup after it")
    assert not wrong
    holes = [(one.timeline, one.number) for one in stressed.stored if one.resumed and one.number > 1]
    for one in refused:
        since = max(hole for hole in holes if hole[0] == one.timeline and hole[1] < one.number)
        before = [other for other in chosen if since < (other.timeline, other.number) < (one.timeline, one.number)]
        assert all(other in refused for other in before), f"{one} is refused, an earlier one after the same hole is not"
    assert len(refused) < len(chosen)


def test_without_kills_of_the_agent_there_is_no_hole(scratch: Path) -> None:
    host = product.make(scratch / "h1")
    with host.captured() as agent:
        story = crew.run(host.database, crew.Plan(page_size=4096, seconds=STRESS_SECONDS, seed=3))
        agent.terminate()
    judged = verdict.judge(product.as_seen(host.stored()), final=story.final, witnessed=story.witnessed)
    print(f"\n4096, agent not killed: {judged}; WAL peak {story.wal_peak_bytes / 1e6:.1f} MB")
    assert judged.is_sound, str(judged)
    assert judged.n_holes == 0
