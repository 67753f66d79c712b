"""What a capture says of the commands it has others run."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from continuum_tasks.capture.follow_ups import FollowUps
from continuum_tasks.capture.subcommand import Subcommand
from tests.unit.capture.conftest import Setting
from tests.unit.capture.following import begun

ERROR = json.dumps({"error": {"name": "StorageUnreachable", "message": "storage s3: is away", "exit_code": 6}}, indent=2)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (f"attempt 1 of 3\n{ERROR}\n", "storage s3: is away"),
        (f"{ERROR}\nhint: wait\n", "storage s3: is away"),
        ("first\nkilled {", "killed {"),
        ("", "exit code 6"),
    ],
)
def test_what_a_command_failed_of_is_told_as_it_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, told: str
) -> None:
    errand = Subcommand(tmp_path, {}, monotonic=time.monotonic)
    needs = FollowUps("memory", "here", errand)
    monkeypatch.setattr(errand, "returned", lambda: (6, printed))
    monkeypatch.setattr(errand, "send", lambda words: None)
    needs.backup()
    assert needs.trouble == f"`continuum backup` failed: {told}"


def test_a_backup_that_stands_behind_nothing_is_not_made_again_at_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else one would follow the other for as long as capture cannot say where they stand."""
    follower = begun(setting)
    follower.change(published=True)
    errand = Subcommand(tmp_path / "errand", {}, monotonic=time.monotonic)
    sent: list[Sequence[str]] = []
    monkeypatch.setattr(errand, "send", sent.append)
    answers = iter([None, (0, "{}\n")])
    monkeypatch.setattr(errand, "returned", lambda: next(answers, None))
    needs = FollowUps("memory", "here", errand)
    assert follower.standing is not None
    assert not any(needs.base(follower.standing) for _ in range(5))
    assert len(sent) == 1 and errand.busy


@pytest.mark.parametrize(
    ("code", "printed", "same"),
    [(0, '{"same": true}', True), (7, '{"same": false}', False), (0, '{"merged": 3}', None), (6, ERROR, None)],
)
def test_only_what_a_proof_itself_says_counts_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, printed: str, same: bool | None
) -> None:
    errand = Subcommand(tmp_path, {}, monotonic=time.monotonic)
    needs = FollowUps("memory", "here", errand)
    monkeypatch.setattr(errand, "returned", lambda: (code, printed))
    assert needs.proof() is same
    assert bool(needs.trouble) is (code == 6)
