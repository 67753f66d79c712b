from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from continuum_tasks import __version__
from continuum_tasks.cli import main
from continuum_tasks.cli.frame.context import CliContext
from continuum_tasks.cli.registry import BACKUP_COMMANDS, COMMANDS
from continuum_tasks.errors import error_classes
from tests.support.cli import PROGRAM
from tests.unit.cli.conftest import Call

PYTHON = PROGRAM


def test_help_costs_under_a_fifth_of_a_second_of_one_core() -> None:
    """CPU time, not the wall's: what else the machine does is no fault of ours."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*PYTHON, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(9)) < 0.2


def test_help_imports_no_command_and_nothing_heavy() -> None:
    program = """
import sys
from continuum_tasks.cli.main import run_command
run_command(["--help"]); run_command(["backup", "--help"])
heavy = {"rich", "apsw", "celery", "redis", "boto3", "cryptography", "continuum_tasks.runtime"}
heavy |= {"continuum_tasks.cli.backup.create"}
sys.exit(f"imported: {sorted(heavy & set(sys.modules))}" if heavy & set(sys.modules) else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_table_can_be_imported_and_has_its_name(call: Call) -> None:
    for prefix, table in (((), COMMANDS), (("backup",), BACKUP_COMMANDS)):
        for name in table:
            done = call(*prefix, name, "--help")
            assert done.code == 0, done.err
            assert done.out.startswith(f"Usage: continuum {' '.join((*prefix, name))} ")
            assert "--config-dir" in done.out and "--format" in done.out


def test_help_lists_every_exit_code_of_the_error_tree(call: Call) -> None:
    shown = call("--help").out
    for cls in error_classes().values():
        assert f"\n  {cls.exit_code:5}  " in shown
    assert f"\n  {main.INTERNAL:5}  " in shown


def test_version_is_the_product_s(call: Call) -> None:
    assert call("--version").out == f"continuum {__version__}\n"


@pytest.mark.parametrize("words", [(), ("backup",)])
def test_no_command_prints_the_help_on_standard_error_and_exits_2(call: Call, words: tuple[str, ...]) -> None:
    done = call(*words)
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


def test_an_unknown_command_names_those_there_are(call: Call) -> None:
    done = call("backup", "crate")
    assert done.code == 2
    assert "error: no such command 'crate'" in done.err and "create" in done.err and "hint: " in done.err


def test_an_error_is_one_line_with_a_hint_and_its_own_exit_code(call: Call, tmp_path: Path) -> None:
    done = call("backup", "list", "--config-dir", "nowhere")
    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == [
        f"error: {tmp_path}/nowhere/backup.conf: there is no such file",
        "hint: run `continuum init`, or name another --config-dir",
    ]


@pytest.mark.parametrize("words", [("--format", "json"), ("--format=json",)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_with_json_an_error_is_the_only_document_on_standard_output(call: Call, words: tuple[str, ...], place: int) -> None:
    command = ["backup", "list"]
    done = call(*command[:place], *words, *command[place:], "--config-dir", "nowhere")
    assert done.code == 3
    assert done.json["error"]["name"] == "ConfigError"
    assert done.json["error"]["exit_code"] == 3
    assert done.err.startswith("error: ")


def test_with_json_a_misused_command_line_is_a_document_too(call: Call) -> None:
    done = call("backup", "list", "--format", "json", "--limit", "none")
    assert done.code == 2
    assert done.json["error"]["name"] == "UsageError"


def test_the_innermost_config_dir_counts(call: Call, site: Path) -> None:
    assert call("--config-dir", "nowhere", "backup", "--config-dir", "no", "list", "--config-dir", "etc").code == 0
    assert call("--config-dir", "etc", "backup", "list").code == 0
    assert call("backup", "--config-dir", "nowhere", "list").code == 3


def test_a_defect_is_one_line_on_screen_and_a_json_line_in_the_log(
    call: Call, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        divmod(1, 0)
    code = main._broke(caught.value, CliContext(), ["--format", "json"])
    shown = capsys.readouterr()
    log = site / "etc/log/backup.log"
    assert code == 70
    assert shown.err == f"internal error: ZeroDivisionError: integer division or modulo by zero; details in {log}\n"
    assert json.loads(shown.out)["error"]["exit_code"] == 70
    line = json.loads(log.read_text())
    assert "test_main.py" in line["traceback"] and line["event"] == "unexpected error"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_defect_without_a_configuration_says_how_to_see_more(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main._broke(KeyError("x"), CliContext(config_dir=str(tmp_path)), []) == 70
    assert "CONTINUUM_DEBUG=1" in capsys.readouterr().err


def test_an_unknown_failpoint_is_a_configuration_error(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_FAILPOINTS", "no.such=kill")
    assert call("--version").code == 3


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*PYTHON, "--version"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode in (1, 141)


def test_names_in_another_encoding_are_shown_and_never_end_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "backup", "list", "--config-dir", os.fsdecode(bytes(tmp_path) + b"/\xff\x1b[31m")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 3
    assert rb"\udcff\x1b[31m" in done.stderr


def test_completion_offers_the_commands_without_importing_them() -> None:
    environment = {**os.environ, "_CONTINUUM_COMPLETE": "bash_complete", "COMP_WORDS": "continuum backup re", "COMP_CWORD": "2"}
    done = subprocess.run(PYTHON, capture_output=True, text=True, env=environment)
    assert sorted(done.stdout.split()) == [f"plain,{name}" for name in ("reindex", "release", "report", "restore")]


def test_output_that_does_not_fit_is_said_so_and_is_no_defect_of_ours(site: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PYTHON, "backup", "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "error: standard output: no space left on device\nhint: " in done.stderr and "Traceback" not in done.stderr


def test_sigterm_unwinds_and_exits_143(site: Path) -> None:
    environment = {**os.environ, "CONTINUUM_FAILPOINTS": "create.staged=sleep:30"}
    process = subprocess.Popen(
        [*PYTHON, "backup", "create", "--strategy", "full", "--local"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "stage" in process.stderr.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert not list((site / "etc/tmp").glob("*/*"))
