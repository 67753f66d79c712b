"""continuum up."""

from __future__ import annotations

import os

import click

from continuum_tasks.cli.frame.context import configuration, shared_options
from continuum_tasks.process import become_module


@click.command("up")
@click.option(
    "--flower-port", type=click.IntRange(1, 65535), default=None, help="Port of Flower [default: 5555, or a free one]."
)
@shared_options
def up(flower_port: int | None) -> None:
    """Run the broker (unless one is configured), capture, the worker pools, the timetable and Flower until Ctrl-C.

    This process becomes the stack, so a supervisor that started it also stops it.
    """
    words = (
        "--config-dir",
        str(configuration().directory),
        *(() if flower_port is None else ("--flower-port", str(flower_port))),
    )
    become_module("workers.stack", *words, environment=os.environ)
