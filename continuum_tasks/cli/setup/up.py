"""continuum up."""

from __future__ import annotations

import os
import sys

import click

from continuum_tasks.cli.frame.context import configuration, shared_options


@click.command("up")
@click.option(
    "--flower-port", type=click.IntRange(1, 65535), default=None, help="Port of Flower [default: 5555, or a free one]."
)
@shared_options
def up(flower_port: int | None) -> None:
    """Run the broker (unless one is configured), capture, the worker pools, the timetable and Flower until Ctrl-C.

    This process becomes the stack, so a supervisor that started it also stops it.
    """
    directory = configuration().directory
    # -P: a `workers` package in the directory this is started from is not ours.
    words = [sys.executable, "-P", "-m", "workers.stack", "--config-dir", str(directory)]
    sys.stdout.flush()
    os.execv(sys.executable, words if flower_port is None else [*words, "--flower-port", str(flower_port)])  # noqa: S606
