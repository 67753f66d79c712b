"""config get, set and list as an operator pastes them from the runbook."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from continuum_tasks.config import load_config
from continuum_tasks.host import audit
from tests.unit.cli.conftest import Call


def last(site: Path) -> audit.Event:
    *_, line = audit.read_events(site / "etc/state" / audit.FILE)
    assert line.event is not None and line.intact
    return line.event


def test_the_runbook_s_settings_are_set_as_it_writes_them(call: Call, site: Path) -> None:
    for key, value in (
        *(("compression_level", "1"), ("compression_algorithm", "lz4"), ("max_concurrent_uploads", "8")),
        *(("compression_level", "9"), ("compression_algorithm", "zstd"), ("encryption_key_id", "backup-key-v1")),
    ):
        done = call("backup", "config", "set", key, value)
        assert done.code == 0, done.err
        assert call("backup", "config", "get", key).out == f"{value}\n"
    settings = load_config(site / "etc").backup
    assert (settings.compression_level, settings.compression_algorithm, settings.max_concurrent_uploads) == (9, "zstd", 8)
    assert call("backup", "create", "--strategy", "full").code == 0


def test_a_value_comes_with_its_place(call: Call, site: Path) -> None:
    lines = (site / "etc/backup.conf").read_text().splitlines()
    number = lines.index("compression_level = 1") + 1
    assert call("backup", "config", "get", "compression_level").err.endswith(f"etc/backup.conf:{number}\n")
    assert call("backup", "config", "set", "compression_level", "--default").code == 0
    found = call("backup", "config", "get", "compression_level", "--format", "json").json
    assert (found["value"], found["from"]) == ("1", "default")
    assert call("backup", "config", "get", "host", "--format", "json").json["from"] == "CONTINUUM_HOST"


def test_the_list_has_every_setting(call: Call, site: Path) -> None:
    found = {row["setting"]: row for row in call("backup", "config", "list", "--format", "json").json}
    assert {"backup.compression_level", "database:memory.path", "storage:local.path", "retention.daily"} <= set(found)
    assert found["database:memory.path"]["value"] == str(site / "memory.db")
    shown = call("backup", "config", "list").out
    assert all(name in shown for name in found)


def test_what_needs_a_restart_says_so(call: Call, site: Path) -> None:
    for key, value, restart in (("workers.transfer", "5", True), ("host", "h2", True), ("daily", "9", False)):
        done = call("backup", "config", "set", key, value)
        assert ("continuum up" in done.err) is restart, key
        assert call("backup", "config", "set", key, value).err == ""
    assert call("backup", "config", "set", "broker.url", "redis://h/1", "--format", "json").json["restart"] is True


def test_a_secret_comes_from_standard_input_and_is_shown_nowhere(
    call: Call, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"redis://:swordfish@broker/0\n")))
    done = [call("backup", "config", "set", "broker.url", "--stdin")]
    assert done[0].code == 0, done[0].err
    assert load_config(site / "etc").broker.url == "redis://:swordfish@broker/0"
    done += [call("backup", "config", "get", "broker.url", *form) for form in ((), ("--format", "json"))]
    done += [call("backup", "config", "list", *form) for form in ((), ("--format", "json"))]
    done += [call("backup", "config", "set", "broker.url", value) for value in ("redis://:swordfish@b c", "swordfish")]
    assert [one.code for one in done] == [0, 0, 0, 0, 0, 3, 3]
    done.append(call("backup", "audit"))
    assert "swordfish" not in "".join(one.out + one.err for one in done)


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("compresion_level", "3"), 2, "did you mean backup.compression_level"),
        (("path", "/x"), 2, "database:memory.path, storage:local.path"),
        (("compression_level", "99"), 3, "a whole number from 0 to 19"),
        (("encryption_key_id", "lost"), 5, "keys there: backup-key-v1"),
        (("compression_level",), 2, "an empty value"),
        (("compression_level", "3", "--default"), 2, "an empty value"),
    ],
)
def test_a_refusal_says_what_would_do_and_changes_nothing(
    call: Call, site: Path, words: tuple[str, ...], code: int, hint: str
) -> None:
    before = (site / "etc/backup.conf").read_bytes()
    done = call("backup", "config", "set", *words, "--format", "json")
    assert (done.code, done.json["error"]["exit_code"]) == (code, code)
    assert hint in done.err
    assert (site / "etc/backup.conf").read_bytes() == before


def test_changes_and_refusals_are_audited(call: Call, site: Path) -> None:
    call("backup", "config", "set", "compression_level", "7")
    event = last(site)
    assert (event.action, event.subject, event.outcome) == ("config-set", "backup.compression_level", "done")
    assert event.detail.startswith("1 -> 7 in ")
    call("backup", "config", "set", "compression_level", "77")
    assert (last(site).outcome, last(site).subject) == ("ConfigError", "backup.compression_level")


def test_names_are_completed(call: Call, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import click

    from continuum_tasks.cli.frame.context import CliContext
    from continuum_tasks.cli.setup.config import get

    ctx = click.Context(get, obj=CliContext())
    with ctx:
        found = get.params[0].shell_complete(ctx, "compression_l")
    assert [item.value for item in found] == ["backup.compression_level"]


def test_config_alone_shows_its_commands(call: Call, site: Path) -> None:
    done = call("backup", "config")
    assert done.code == 2 and all(word in done.err for word in ("get", "set", "list"))
    assert json.loads(call("backup", "config", "list", "--format=json").out)
