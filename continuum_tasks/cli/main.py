"""`continuum`: the command line's entry, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import click

from continuum_tasks import __version__, errors, failpoints
from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import CliContext, Format, shared_options
from continuum_tasks.cli.registry import BACKUP_COMMANDS, COMMANDS, LazyGroup
from continuum_tasks.errors import ContinuumError, UsageError

PROGRAM = "continuum"
INTERNAL, STOPPED, TERMINATED = 70, 130, 143
_MEANINGS = {
    0: "done",
    1: "a difference was found (compare-counts), or another error of the operating system",
    INTERNAL: "a bug in this program; its log has the details",
    STOPPED: "stopped by Ctrl-C; a queued job continues",
    output.PIPE_CLOSED: "standard output was closed",
    TERMINATED: "stopped by SIGTERM",
}


def exit_codes() -> dict[int, str]:
    """Return every exit code and what it means, from the error tree."""
    lines = (errors.__doc__ or "").splitlines()
    found = dict(_MEANINGS)
    for name, cls in errors.error_classes().items():
        if cls.__base__ is ContinuumError:
            line = next((line for line in lines if line.lstrip("├└─│ ").startswith(f"{name} ")), f"{name} 0 {name}")
            found[cls.exit_code] = line.lstrip("├└─│ ").split(None, 2)[2]
    return dict(sorted(found.items()))


def _epilog() -> str:
    # \b keeps click from wrapping the lines into a paragraph.
    return "\b\nExit codes:\n" + "\n".join(f"  {code:3}  {meaning}" for code, meaning in exit_codes().items())


@click.group(PROGRAM, cls=LazyGroup, table=COMMANDS, epilog=_epilog(), context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@shared_options
def cli() -> None:
    """Back up, verify and restore live SQLite databases."""


@cli.group(cls=LazyGroup, table=BACKUP_COMMANDS)
@shared_options
def backup() -> None:
    """Make, list, restore and verify backups."""


def main() -> NoReturn:
    """Run the command line of this process and end it."""
    signal.signal(signal.SIGTERM, _terminated)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name in another encoding must not end a restore
    code = run_command(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        output.hush()
        code = output.PIPE_CLOSED
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever goes wrong is said on standard error, in one place."""
    asked = CliContext()
    try:
        failpoints.arm(os.environ.get("CONTINUUM_FAILPOINTS", ""))
        result: Any = cli.main(list(arguments), prog_name=PROGRAM, standalone_mode=False, obj=asked)
    except ContinuumError as err:
        return _fail(err, arguments)
    except click.Abort:
        output.remark("stopped")
        return STOPPED
    except click.ClickException as err:
        return _misused(err, arguments)
    except click.exceptions.Exit as err:
        return err.exit_code
    except Exception as err:  # noqa: BLE001 - the edge of the process: nothing above could say it better than one line
        if isinstance(err, OSError) and isinstance(err.filename, str | bytes):
            return _refused(err, asked, arguments)
        return _broke(err, asked, arguments)
    return result if isinstance(result, int) else 0


def _fail(err: ContinuumError, arguments: Sequence[str]) -> int:
    output.error(err)
    if _wants_json(arguments):
        output.print_document({"error": output.error_fields(err)})
    return err.exit_code


def _misused(err: click.ClickException, arguments: Sequence[str]) -> int:
    path = PROGRAM
    if isinstance(err, click.UsageError) and err.ctx is not None:
        path = err.ctx.command_path
        output.remark(err.ctx.get_usage())
    return _fail(UsageError(err.format_message(), hint=f"see `{path} --help`"), arguments)


def _refused(err: OSError, asked: CliContext, arguments: Sequence[str]) -> int:
    """Report what the system refused on a named file: a matter of the machine, not a defect."""
    where = _log("".join(traceback.format_exception(err)), asked)
    message = f"{os.fsdecode(err.filename)}: {(err.strerror or type(err).__name__).lower()}"
    return _fail(ContinuumError(message, hint=f"check the path, its permissions and the disk; {where}"), arguments)


def _broke(err: Exception, asked: CliContext, arguments: Sequence[str]) -> int:
    details = "".join(traceback.format_exception(err))
    if os.environ.get("CONTINUUM_DEBUG") == "1":
        output.remark(details)
    where = _log(details, asked)
    text = " ".join(str(err).split())[:500]
    message = f"{type(err).__name__}: {text}"
    output.remark(f"internal error: {message}; {where}")
    if _wants_json(arguments):
        fields = {"name": "InternalError", "message": message, "hint": where, "exit_code": INTERNAL}
        output.print_document({"error": fields})
    return INTERNAL


def _log(details: str, asked: CliContext) -> str:
    """Append the traceback to the log as one JSON line; returns where it is, or how to see it."""
    from continuum_tasks.config import find_config_directory, load_config

    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "error",
        "process": os.getpid(),
        "logger": "continuum_tasks.cli",
        "event": "unexpected error",
        "traceback": details,
    }
    with contextlib.suppress(ContinuumError, OSError, ValueError):
        path = load_config(find_config_directory(asked.config_dir, os.environ), environment=os.environ).log_file
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")
        return f"details in {path}"
    return "run it again with CONTINUUM_DEBUG=1 for details"


def _wants_json(arguments: Sequence[str]) -> bool:
    # Read from the words themselves: what could not be parsed was never handed to an option.
    asked_for = ""
    for number, word in enumerate(arguments):
        if word == "--format":
            asked_for = "".join(arguments[number + 1 : number + 2])
        elif word.startswith("--format="):
            asked_for = word.removeprefix("--format=")
    return asked_for == Format.JSON


def _terminated(_number: int, _frame: object) -> NoReturn:
    sys.exit(TERMINATED)  # unwinds, so temporary files go and locks are given back
