"""continuum up, continuum down."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import click

from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import cli_context, configuration, shared_options
from continuum_tasks.errors import BrokerError, ContinuumError, error_classes
from continuum_tasks.host.stack_record import RunningStack, running_stack, stop_stack
from continuum_tasks.launch import become_module, own_command

LOG = Path("logs", "stack.log")
READY_SECONDS = 300.0
STOP_SECONDS = 90.0
_POLL_SECONDS = 0.1


@click.command("up")
@click.option(
    "--flower-port", type=click.IntRange(1, 65535), default=None, help="Port of Flower [default: 5555, or a free one]."
)
@click.option("--detach", is_flag=True, help="Run it in the background and return when it is ready; `continuum down` stops it.")
@shared_options
def up(flower_port: int | None, detach: bool) -> None:
    """Run the broker (unless one is configured), capture, the worker pools, the timetable and Flower until Ctrl-C.

    This process becomes the stack and keeps the terminal, so a supervisor that started it also stops it. With --detach the
    stack gets a session of its own and outlives the terminal.
    """
    config = configuration()
    words: tuple[str, ...] = ("--config-dir", str(config.directory))
    if flower_port is not None:
        words = (*words, "--flower-port", str(flower_port))
    if detach:
        _run_detached(config.state_dir, own_command("workers.stack", *words))
        return
    become_module("workers.stack", *words, environment=os.environ)


@click.command("down")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, max=86_400),
    default=STOP_SECONDS,
    metavar="SECONDS",
    help="Wait so long for it to end [default: 90].",
)
@shared_options
def down(timeout_seconds: float) -> None:
    """Stop what `continuum up` started on this state directory, and wait until it has ended.

    Running tasks get a few seconds and go back to the queue; what was captured and not shipped stays on this host.
    """
    found = running_stack(configuration().state_dir)
    if found is not None and not stop_stack(found, timeout_seconds=timeout_seconds):
        raise BrokerError(
            f"process {found.pid}: the stack still runs after {timeout_seconds:g} s",
            hint=f"repeat the command; `kill -KILL {found.pid}` ends it at once, with all its processes",
        )
    if cli_context().as_json:
        output.print_document({"state": "stopped", "changed": found is not None, "pid": found.pid if found else None})
    else:
        output.print_text("not running: there is nothing to stop" if found is None else f"stopped (process {found.pid})")


def _run_detached(state_dir: Path, words: Sequence[str]) -> None:
    log = state_dir / LOG
    found = running_stack(state_dir)
    started = found is None
    if found is None:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        begin = log.stat().st_size if log.exists() else 0
        found = _await_ready(_start(words, log), state_dir, log, begin=begin)
    _show(found, log, started=started)


def _start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 (our own command line)
            words, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True, cwd=log.parent
        )
    finally:
        os.close(descriptor)


def _await_ready(process: subprocess.Popen[bytes], state_dir: Path, log: Path, *, begin: int) -> RunningStack:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        found = running_stack(state_dir)
        if found is not None and found.ready and found.pid == process.pid:
            return found
        if process.poll() is not None:
            raise _why_it_ended(process.returncode, log, begin=begin)
        time.sleep(_POLL_SECONDS)
    hint = f"it goes on: {log} says what it waits for, `continuum down` stops it"
    raise BrokerError(f"process {process.pid}: not ready after {READY_SECONDS:g} s", hint=hint)


def _why_it_ended(code: int, log: Path, *, begin: int) -> ContinuumError:
    """Return the stack's own error, from the lines it wrote."""
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), f"exit status {code}")
    hint = next((line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")), "")
    branches = {cls.exit_code: cls for cls in error_classes().values() if cls.__base__ is ContinuumError}
    text = f"{hint}; the log is {log}" if hint else f"the log is {log}"
    return branches.get(code, BrokerError)(f"the stack ended while it started: {said}", hint=text)


def _show(stack: RunningStack, log: Path, *, started: bool) -> None:
    state = "ready" if stack.ready else "starting"
    if cli_context().as_json:
        output.print_document({"state": state, "changed": started, "pid": stack.pid, "log": str(log)})
        return
    output.print_text(f"{state} (process {stack.pid})" if started else f"running already: {state} (process {stack.pid})")
    output.print_text(f"log: {log}" if log.exists() else "log: in the terminal, or where its supervisor keeps it")
    output.print_text("stop it with: continuum down")
