"""What capture calls its own files is nothing that a database may be called."""

from __future__ import annotations

import click
import pytest

from continuum_tasks.capture.state import requests, status
from continuum_tasks.cli.frame import parameters
from workers import capture


@pytest.mark.parametrize("name", [capture.LOCK, requests.REQUESTS, status.HEARTBEAT])
def test_no_database_can_be_called_as_a_file_of_capture(name: str) -> None:
    with pytest.raises(click.BadParameter):
        parameters.declared_name(name)
