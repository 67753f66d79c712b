"""The four pools as data, the process that captures commits, and the command line that runs each."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.config import Config, find_config_directory, load_config
from continuum_tasks.host import routing
from continuum_tasks.launch import own_command

CAPTURE = "capture"
HOUR_SECONDS = 3600
HARD_LIMIT_AFTER_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPool:
    """One Celery worker; `queue` may name several, with commas between them.

    A task gets `soft_limit_seconds` to end, then an exception, and after 5 minutes more a SIGKILL.
    """

    name: str
    queue: str
    n_processes: int
    soft_limit_seconds: int


def pools(config: Config) -> tuple[WorkerPool, ...]:
    """Return the pools of this host."""
    n = config.workers
    return (
        WorkerPool(
            name="agent", queue=routing.agent_queue(config.host), n_processes=n.agent, soft_limit_seconds=6 * HOUR_SECONDS
        ),
        WorkerPool(
            name="transfer", queue=routing.transfer_queue(config.host), n_processes=n.transfer, soft_limit_seconds=HOUR_SECONDS
        ),
        WorkerPool(
            name="verify", queue=routing.verify_queue(config.host), n_processes=n.verify, soft_limit_seconds=12 * HOUR_SECONDS
        ),
        WorkerPool(
            name="control", queue=routing.control_queue(config.host), n_processes=n.control, soft_limit_seconds=HOUR_SECONDS
        ),
    )


def pool_command(pool: WorkerPool, *, host: str) -> tuple[str, ...]:
    """Return the command of a pool; it carries no secret. Prefork: a killed task takes no other with it."""
    return (
        *own_command("celery", "-A", "workers.app", "worker"),
        *("-Q", pool.queue, "-n", f"{pool.name}@{host}", "-P", "prefork", "-c", str(pool.n_processes), "-O", "fair"),
        *("--without-gossip", "--without-mingle", "--loglevel", "INFO"),
        *("--soft-time-limit", str(pool.soft_limit_seconds)),
        *("--time-limit", str(pool.soft_limit_seconds + HARD_LIMIT_AFTER_SECONDS)),
    )


def capture_command() -> tuple[str, ...]:
    """Return the command of the process that captures commits; it is no Celery worker, and needs no broker."""
    return own_command("workers.capture")


def environment(config_directory: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every process of ours. A remapped SIGTERM requeues running tasks and runs their `finally`."""
    return {
        **inherited,
        "CONTINUUM_CONFIG_DIR": str(config_directory),
        "REMAP_SIGTERM": "SIGQUIT",
    }


def main() -> None:
    """Become the worker of one pool, or capture: `python -m workers.pools agent`, for containers and one service per pool."""
    config = load_config(find_config_directory(None, os.environ))
    wanted = {pool.name: pool_command(pool, host=config.host) for pool in pools(config)} | {CAPTURE: capture_command()}
    if len(sys.argv) != 2 or sys.argv[1] not in wanted:
        sys.exit(f"usage: python -m workers.pools {'|'.join(wanted)}")
    words = wanted[sys.argv[1]]
    os.execve(words[0], words, environment(config.directory, os.environ))  # noqa: S606


if __name__ == "__main__":
    main()
