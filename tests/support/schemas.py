"""The published schemas, and whether what a command printed keeps to the one of that command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from jsonschema import Draft202012Validator, FormatChecker

from continuum_tasks.cli import main

DIRECTORY = Path(main.__file__).with_name("schemas")


@cache
def validator(name: str) -> Draft202012Validator:
    """Return the check for one document. Stricter than the schema: a field that it does not describe is an error."""
    schema = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(_closed(schema), format_checker=FormatChecker())


def name_of(words: Sequence[str]) -> str:
    """Return the name of the schema of a command: the names of its groups and its own, with hyphens."""
    command: click.Command = main.cli
    names: list[str] = []
    for word in words:
        found = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if found is not None:
            names.append(word)
            command = found
    return "-".join(names)


def hold_to_schema(words: Sequence[str], document: Any) -> None:
    """Raise ValidationError when a document does not keep to the schema of its command."""
    failed = isinstance(document, dict) and "error" in document and set(document) == {"schema_version", "error"}
    validator("error" if failed else name_of(words)).validate(document)


def hold_output(words: Sequence[str], text: str) -> None:
    """Hold what a command printed with `--format json`. Rows that `extract` prints are the user's own columns."""
    rows = "extract" in words and not {"--into", "--output"} & set(words)
    if "--format=json" not in words and ("--format", "json") not in pairwise(words):
        return
    if text and not rows and "--help" not in words:
        hold_to_schema(words, json.loads(text))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _closed(value) for key, value in schema.items()}
    if "properties" in schema and "required" in schema:
        inner.setdefault("additionalProperties", False)
    return inner
