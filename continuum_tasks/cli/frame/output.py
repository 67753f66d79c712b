"""What goes out: one document on standard output, remarks on standard error. Whoever stops reading stops us, quietly."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Mapping
from typing import Any, TypeVar

import click

from continuum_tasks.errors import ContinuumError
from continuum_tasks.findings import Remark
from continuum_tasks.units import duration as duration
from continuum_tasks.units import moment as moment

T = TypeVar("T")

SCHEMA_VERSION = 1  # of the JSON documents: schemas/ describes them; a field that goes or changes its meaning makes it 2
PIPE_CLOSED = 141  # as the shell counts a process that SIGPIPE ended
MAX_MESSAGE = 2000
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def print_document(value: Any) -> None:
    """Print one JSON document on standard output: an object, or an array of objects, each with `schema_version`."""
    versioned = [versioned_fields(one) for one in value] if isinstance(value, list) else versioned_fields(value)
    out(json.dumps(versioned, indent=2, allow_nan=False))


def versioned_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of one object of a document with the version it is written in."""
    rest = {name: value for name, value in fields.items() if name != "schema_version"}  # a line of a log may have any field
    return {"schema_version": SCHEMA_VERSION, **rest}


def print_text(text: str) -> None:
    """Print text for people on standard output, made printable."""
    out(printable(text))


def out(text: str) -> None:
    """Print text on standard output as it is; when nobody reads any more the command ends without a word."""
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError as err:
        hush()
        raise click.exceptions.Exit(PIPE_CLOSED) from err
    except OSError as err:
        hush()
        why = (err.strerror or type(err).__name__).lower()
        raise ContinuumError(f"standard output: {why}", hint="free space where it goes, or send it elsewhere") from err


def remark(text: str) -> None:
    """Print one remark on standard error."""
    click.echo(printable(text), err=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    remark(f"warning: {text}")


def print_remarks(steps: Generator[Remark, None, T]) -> T:
    """Print what is remarked on the way to a result as it comes, and return the result."""
    while True:
        try:
            made = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        (warn if made.warns else remark)(made.text)


def error(err: ContinuumError) -> None:
    """Print an error and its hint on standard error; what somebody typed may be long, a message is not."""
    text = err.message
    remark(f"error: {text if len(text) <= MAX_MESSAGE else f'{text[:MAX_MESSAGE]}...'}")
    if err.hint:
        remark(f"hint: {err.hint}")


def error_fields(err: ContinuumError) -> dict[str, Any]:
    """Return an error as it stands in JSON output."""
    return {"name": type(err).__name__, "message": err.message, "hint": err.hint, "exit_code": err.exit_code}


def hush() -> None:
    """Send what is still buffered nowhere, so the interpreter does not complain about it when it ends."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
    os.close(descriptor)


def printable(text: str) -> str:
    """Return text with everything escaped that a terminal would obey or an encoding refuse; line breaks stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def size(n_bytes: float) -> str:
    """Return a size for people: `1.5 MiB`."""
    value, unit = float(n_bytes), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{value:.0f} B"
