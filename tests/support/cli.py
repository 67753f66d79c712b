"""The command line as users have it: `continuum` in a process of its own, with its environment, a time limit and its JSON.

Unit tests of commands call them in process instead (`call` in tests/unit/cli/conftest.py): a hundredth of the cost.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from continuum_tasks.cli.frame.context import CliContext
from continuum_tasks.cli.main import cli
from continuum_tasks.config import Config
from tests.support.processes import ROOT, environment

PROGRAM = (sys.executable, "-m", "continuum_tasks.cli")
HANG_SECONDS = 600.0


class Configured(Protocol):
    """Any of the hosts that tests make."""

    @property
    def config(self) -> Config: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def ok(self) -> Done:
        """Return this, or fail with what the command said."""
        assert self.code == 0, self.err or self.out
        return self


def start(host: Configured | Config, *words: object, cwd: Path = ROOT, **more: str) -> subprocess.Popen[str]:
    """Start a command with pipes for what it says; `more` is its environment beside the configuration."""
    config = host if isinstance(host, Config) else host.config
    plain = {"CONTINUUM_LOCAL": "", "CONTINUUM_FAILPOINTS": ""}
    return subprocess.Popen(
        [*PROGRAM, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(config, **{**plain, **more}),
    )


def command(host: Configured | Config, *words: object, cwd: Path = ROOT, **more: str) -> Done:
    """Run a command to its end."""
    return _ended(start(host, *words, cwd=cwd, **more))


def call(*words: object, cwd: Path, env: Mapping[str, str]) -> Done:
    """Run a command to its end with this environment and no other."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=dict(env),
    )
    return _ended(process)


def _ended(process: subprocess.Popen[str]) -> Done:
    try:
        out, err = process.communicate(timeout=HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args!r} did not end in {HANG_SECONDS:.0f} s: {out}{err}") from None
    return Done(code=process.returncode, out=out, err=err)


def parse(line: str) -> click.Context:
    """Parse a line as the command would, down to its values, and stop before anything is done."""
    command: click.Command = cli
    words = shlex.split(line)[1:]
    ctx = command.make_context("continuum", words, obj=CliContext())
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
        assert found is not None
        command = found
        ctx = command.make_context(name, words, parent=ctx)
    return ctx
