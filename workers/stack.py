"""`continuum up`: the broker (unless one is configured), capture, the four pools, beat and Flower, as one process tree."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from continuum_tasks.capture.state.status import read_heartbeat
from continuum_tasks.config import Config, load_config
from continuum_tasks.errors import BrokerError, BrokerUnreachable, ContinuumError
from continuum_tasks.host.jobs import open_jobs
from continuum_tasks.host.metadata import METADATA
from continuum_tasks.host.stack_record import hold_stack_record, mark_ready
from continuum_tasks.launch import own_command
from continuum_tasks.process import pid_of
from continuum_tasks.tasks.client import broker_url_of, check_broker, embedded
from workers import broker, settings, web
from workers.pools import CAPTURE, WorkerPool, capture_command, environment, pool_command, pools
from workers.steps import BEAT_POOL
from workers.supervisor import Child, Program, Supervisor, block_signals, wait_for_signal

READY_SECONDS = 120.0
STOP_SECONDS = settings.SOFT_SHUTDOWN_SECONDS + 25.0
_PATIENCE_DEATHS = 3  # then `ready` no longer waits for a component that is not essential


class Stopped(Exception):
    """A stop signal came before everything was ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A child and the line to say once it is ready (None until then). Backups run without one that is not `essential`."""

    child: Child
    ready: Callable[[], str | None]
    essential: bool = True


def run_stack(config: Config, *, flower_port: int | None) -> None:
    """Run everything until SIGINT or SIGTERM. Flower listens on `flower_port`, or on 5555 or any free port when None.

    Raises LockError when another stack uses the state directory, BrokerError when a component does not come up.
    """
    os.umask(0o077)
    block_signals()
    with broker.only_stack(config.state_dir) as lock, hold_stack_record(config.state_dir, host=config.host) as record:
        supervisor = Supervisor(say=click.echo)
        server = None
        try:
            if config.broker.url is not None:
                _is_there(config)  # an unsafe one is refused before anything is started
            capture = _start_capture(config, supervisor)
            server = _start_broker(config, supervisor, lock)
            _await_ready(supervisor, [capture, *_start_rest(config, supervisor, flower_port)])
            click.echo("ready")
            mark_ready(record)
            while not wait_for_signal(0.1):
                supervisor.tend()
        except Stopped:
            pass
        finally:
            _stop(config, supervisor, server)
    click.echo("stopped")


def _start_broker(config: Config, supervisor: Supervisor, lock: int) -> Child | None:
    if config.broker.url is not None:
        _await_configured(config, supervisor)
        click.echo("broker: configured, safe, ready")
        return None
    server, server_config = broker.find_server(), broker.prepare_broker(config.state_dir)
    child = supervisor.start(_program(config, "broker", (server, str(server_config)), kept=(lock,)))
    where = embedded(config.state_dir).socket_record.read_text(encoding="utf-8")
    line = f"broker: {Path(server).name} on {where}"
    _await_ready(supervisor, [Component(child=child, ready=lambda: line if _answers(broker_url_of(config)) else None)])
    return child


def _await_configured(config: Config, supervisor: Supervisor) -> None:
    if not _is_there(config):
        click.echo("broker: configured, does not answer; commits are captured, all else waits for it")
    while not _is_there(config):
        if wait_for_signal(1.0):
            raise Stopped
        supervisor.tend()


def _is_there(config: Config) -> bool:
    """Tell whether the configured broker answers. Raises BrokerUnsafe; BrokerUnreachable where nothing works without it."""
    try:
        check_broker(broker_url_of(config), timeout_seconds=5.0)
    except BrokerUnreachable:
        if not any(database.continuous for database in config.databases):
            raise
        return False
    return True


def _start_rest(config: Config, supervisor: Supervisor, flower_port: int | None) -> list[Component]:
    components = [_start_pool(config, supervisor, pool) for pool in pools(config)]
    words = own_command("celery", "-A", "workers.app", "beat", "--pidfile=", "--loglevel", "INFO")
    beat = supervisor.start(_program(config, "beat", words))
    components.append(Component(child=beat, ready=lambda: "beat: ready" if _reported(config, BEAT_POOL, beat) else None))
    if importlib.util.find_spec("flower") is None:
        click.echo("flower: not installed")
        return components
    return [*components, _start_flower(config, supervisor, flower_port)]


def _start_pool(config: Config, supervisor: Supervisor, pool: WorkerPool) -> Component:
    child = supervisor.start(_program(config, pool.name, pool_command(pool, host=config.host)))
    line = f"{pool.name}: {pool.n_processes} processes on queue {pool.queue}"
    return Component(child=child, ready=lambda: line if _reported(config, pool.name, child) else None)


def _start_capture(config: Config, supervisor: Supervisor) -> Component:
    child = supervisor.start(_program(config, CAPTURE, capture_command()))
    n = sum(database.continuous for database in config.databases)
    what = f"{n} database{'s' if n > 1 else ''}" if n else "nothing to capture"

    def ready() -> str | None:
        found = read_heartbeat(config.state_dir)
        return f"{CAPTURE}: {what}" if found is not None and pid_of(found.worker) == child.process.pid else None

    # Backups are worth having where another process captures already.
    return Component(child=child, ready=ready, essential=False)


def _start_flower(config: Config, supervisor: Supervisor, port: int | None) -> Component:
    words = own_command("workers.web", str(config.state_dir), str(port or 0))
    child = supervisor.start(_program(config, "flower", words))

    def ready() -> str | None:
        found = web.listening_port(config.state_dir, child.process.pid)
        return None if found is None else f"flower: http://127.0.0.1:{found}"

    return Component(child=child, ready=ready, essential=False)


def _program(config: Config, name: str, words: tuple[str, ...], *, kept: tuple[int, ...] = ()) -> Program:
    logs = config.state_dir / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    inherited = settings.inherited_environment()
    secret = config.state_dir / "flower.password"
    if name == "flower" and secret.exists():
        inherited["FLOWER_BASIC_AUTH"] = secret.read_text(encoding="utf-8").strip()
    return Program(
        name=name,
        command=words,
        environment=environment(config.directory, inherited),
        directory=config.state_dir,
        log=logs / f"{name}.log",
        kept=kept,
    )


def _await_ready(supervisor: Supervisor, components: list[Component]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = list(components)
    dispensable = [c.child for c in components if not c.essential]
    while waiting:
        if wait_for_signal(0.05):
            raise Stopped
        for component in list(waiting):
            line = component.ready()
            if line is not None:
                click.echo(line)
                waiting.remove(component)
        for child in supervisor.children:
            if not child.alive and child not in dispensable:
                raise BrokerError(f"{child.program.name}: {child.end}", hint=_last_lines(child.program.log))
        supervisor.tend()
        waiting = [c for c in waiting if c.essential or c.child.n_deaths < _PATIENCE_DEATHS]
        if waiting and time.monotonic() > deadline:
            names = ", ".join(c.child.program.name for c in waiting)
            raise BrokerError(f"{names}: not ready after {READY_SECONDS:g} s", hint=_last_lines(waiting[0].child.program.log))


def _stop(config: Config, supervisor: Supervisor, server: Child | None) -> None:
    # The broker goes last: pools give back what they had not finished. Capture ships meanwhile what it has; what it cannot
    # ship in that time is durable on this host.
    workers = [child for child in supervisor.children if child is not server]
    supervisor.stop(workers, limit_seconds=STOP_SECONDS)
    if server is not None:
        supervisor.stop([server], limit_seconds=10.0)
        broker.tidy(config.state_dir)


def _answers(url: str) -> bool:
    try:
        check_broker(url, timeout_seconds=0.5)
    except BrokerUnreachable:  # not up yet, or still reading its append-only file
        return False
    return True


def _reported(config: Config, pool: str, child: Child) -> bool:
    jobs = open_jobs(config.state_dir / METADATA)
    try:
        return any(p.pool == pool and p.pid == child.process.pid for p in jobs.pools(datetime.now(UTC)))
    finally:
        jobs.close()


def _last_lines(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return "\n".join([f"the end of {path}:", *lines[-8:]])


@click.command(name="up")
@click.option("--config-dir", type=click.Path(path_type=Path), required=True, help="Directory of the .conf files.")
@click.option(
    "--flower-port", type=click.IntRange(1, 65535), default=None, help="Port of Flower [default: 5555, or a free one]."
)
def main(config_dir: Path, flower_port: int | None) -> None:
    """Run the broker, capture, the worker pools, beat and Flower until Ctrl-C."""
    try:
        run_stack(load_config(config_dir.absolute()), flower_port=flower_port or settings.flower_port())
    except ContinuumError as err:
        click.echo(f"error: {err.message}", err=True)
        if err.hint:
            click.echo(f"hint: {err.hint}", err=True)
        sys.exit(err.exit_code)


if __name__ == "__main__":
    main()
