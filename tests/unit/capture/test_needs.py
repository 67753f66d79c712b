"""What a capture says of the commands it has others run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from continuum_tasks.capture.errand import Errand
from continuum_tasks.capture.needs import Needs

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
    errand = Errand(tmp_path, {}, monotonic=time.monotonic)
    needs = Needs("memory", "here", errand)
    monkeypatch.setattr(errand, "returned", lambda: (6, printed))
    monkeypatch.setattr(errand, "send", lambda words: None)
    needs.backup()
    assert needs.trouble == f"`continuum backup` failed: {told}"
