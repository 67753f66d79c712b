"""What capture calls its own files is nothing that a database may be called."""

from __future__ import annotations

import click
import pytest

from continuum_tasks.capture import release, status
from continuum_tasks.cli import params
from workers import capture


@pytest.mark.parametrize("name", [capture.LOCK, release.REQUESTS, status.HEARTBEAT])
def test_no_database_can_be_called_as_a_file_of_capture(name: str) -> None:
    with pytest.raises(click.BadParameter):
        params.name(name)
