"""python -m continuum_tasks.sample: the four commands from end to end, and that they need nothing of the product."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "continuum_tasks.sample", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def answer(*arguments: object) -> dict[str, Any]:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_generate_write_change_and_oracle_work_together(tmp_path: Path) -> None:
    path, log = tmp_path / "memory.db", tmp_path / "commits.jsonl"

    made = answer("generate", path, "--size", "1M", "--seed", 4, "--journal-mode", "wal", "--page-size", 8192)
    start = answer("oracle", path)
    written = answer("write", path, "--seconds", "0.4", "--rate", 50, "--commits-log", log)
    middle = answer("oracle", path)
    changed = answer("change", path, "--fraction", "0.01", "--seed", 2)
    end = answer("oracle", path)

    assert made["counts"] == {table: n for table, n in start["counts"].items() if table != "sqlite_sequence"}
    assert written["n_commits"] == len(log.read_text().splitlines()) > 0
    assert middle["counts"]["thinking_snapshots"] == start["counts"]["thinking_snapshots"] + written["n_commits"]
    assert changed["n_rows"] == round(0.01 * (sum(middle["counts"].values()) - 25))  # 24 tenants and sqlite_sequence stay
    assert middle["counts"] == end["counts"]
    assert len({start["sha256"], middle["sha256"], end["sha256"]}) == 3


def test_without_a_log_file_each_commit_is_a_line_of_output(tmp_path: Path) -> None:
    answer("generate", tmp_path / "memory.db", "--size", "1M")

    lines = run("write", tmp_path / "memory.db", "--commits", 4, "--rate", 1000).stdout.splitlines()

    assert [set(json.loads(line)) for line in lines[:-1]] == [{"sequence", "took_seconds", "n_locked"}] * 4
    assert json.loads(lines[-1])["n_commits"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("oracle", "gone.db"), 1, "gone.db: unable to open"),
        (("change", "gone.db"), 1, "gone.db: unable to open"),
        (("write", "gone.db", "--seconds", 1), 1, "gone.db: unable to open"),
        (("generate", "tiny.db", "--size", "1K"), 1, "tiny.db: size 1024"),
        (("generate", "new.db", "--size", "many"), 2, "is not a size"),
        (("write", "gone.db", "--seconds", 1, "--rate", 0), 2, "not above 0"),
        (("write", "gone.db"), 2, "required"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(arguments: tuple[object, ...], code: int, said: str) -> None:
    done = run(*arguments)

    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_generation_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from continuum_tasks.sample.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "sys.exit(main(['generate', sys.argv[1], '--size', '80M']))"
    )

    command = [sys.executable, "-c", program, str(tmp_path / "memory.db")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}/memory.db: ")
    assert list(tmp_path.iterdir()) == []


def test_the_sample_needs_nothing_of_the_product_and_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; import continuum_tasks.sample.__main__\n"
        "tops = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "ours = [n for n in sys.modules if n.startswith('continuum_tasks.') and not n.startswith('continuum_tasks.sample')]\n"
        "print(sorted(tops & {'apsw', 'numpy', 'boto3', 'celery', 'click', 'rich', 'zstandard', 'xxhash'}), ours)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180, check=True)

    assert done.stdout.strip() == "[] []"
