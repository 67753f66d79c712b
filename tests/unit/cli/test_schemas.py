"""Every command's JSON document is described by a published schema. `call` holds every other test's output to it."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from jsonschema import ValidationError

from continuum_tasks.cli.frame.output import SCHEMA_VERSION
from continuum_tasks.cli.main import cli
from tests.support.schemas import DIRECTORY, hold_to_schema, validator
from tests.unit.cli.conftest import Call

NAMES = sorted(path.stem for path in DIRECTORY.glob("*.json"))
NO_DOCUMENT = {"backup-capture-run"}  # it becomes another process


def leaves(group: click.Group, name: str = "") -> list[str]:
    """Return the names of the schemas of all commands below a group."""
    found: list[str] = []
    for word in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), word)
        full = f"{name}-{word}".removeprefix("-")
        found += leaves(command, full) if isinstance(command, click.Group) else [full]
    return found


def objects(schema: Any) -> list[dict[str, Any]]:
    """Return the schemas of the objects that a document may be, or that its elements may be."""
    if "anyOf" in schema:
        return [one for part in schema["anyOf"] for one in objects(part)]
    return objects(schema["items"]) if schema["type"] == "array" else [schema]


def test_every_command_has_a_schema_and_every_schema_a_command() -> None:
    assert set(NAMES) == ({*leaves(cli), "error"} - NO_DOCUMENT)


@pytest.mark.parametrize("name", NAMES)
def test_this_schema_is_valid_and_wants_the_version(name: str) -> None:
    validator(name)
    schema = json.loads((DIRECTORY / f"{name}.json").read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert name == "error" or schema["title"].replace(" ", "-").startswith(f"continuum-{name}")
    for one in objects(schema):
        assert one["properties"]["schema_version"]["const"] == SCHEMA_VERSION
        assert "schema_version" in one["required"]


def test_a_field_that_no_schema_describes_is_noticed(call: Call, full: str) -> None:
    (listed,) = call("backup", "list", "--format", "json").json
    hold_to_schema(("backup", "list"), [listed])
    for wrong in ({**listed, "new": 1}, {k: v for k, v in listed.items() if k != "root"}, {**listed, "schema_version": 2}):
        with pytest.raises(ValidationError):
            hold_to_schema(("backup", "list"), [wrong])


def test_a_list_stays_an_array_whose_first_element_is_a_backup(call: Call, full: str) -> None:
    """As `jq -r '.[0].backup_id'` of the runbook reads it."""
    assert call("backup", "list", "--format", "json").json[0]["backup_id"] == full


def test_a_line_of_the_log_cannot_take_the_place_of_the_version(call: Call, site: Any) -> None:
    log = next(line for line in (site / "etc/backup.conf").read_text().splitlines() if line.startswith("log_file"))
    path = site / "etc" / log.partition("=")[2].strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"at": "2026-11-27T10:00:00+00:00", "schema_version": "theirs", "event": "x"}\n')
    assert [line["schema_version"] for line in call("backup", "logs", "--format", "json").json] == [SCHEMA_VERSION]
