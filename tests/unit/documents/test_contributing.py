"""CONTRIBUTING and the README's map say where things are, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAP = README.partition("## The source in ten seconds")[2].split("```")[1]
QUESTIONS = re.findall(r"^\| (Where|What|How)( .*\?) \| (.*) \|$", CONTRIBUTING, re.MULTILINE)
FILES = sorted(set(re.findall(r"`([a-z_]+(?:/[A-Za-z0-9_.]+)*(?:\.[a-z]+|/[a-z_]+))`", CONTRIBUTING)))
NAMED = set(re.findall(r"(?<!\S)([a-z_]+(?:/|\.py))(?!\S)", MAP))


def test_ten_questions_are_answered_by_files() -> None:
    assert len(QUESTIONS) == 10
    assert all(re.search(r"`[a-z_/]+\.py`", answer) for _, _, answer in QUESTIONS)


@pytest.mark.parametrize("name", FILES)
def test_this_file_exists(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("number", range(10))
def test_the_map_names_the_package_of_this_answer(number: int) -> None:
    for path in re.findall(r"`([a-z_/]+\.py)`", QUESTIONS[number][2]):
        parts = path.split("/")
        place = parts[1] if parts[0] == "continuum_tasks" else parts[0]
        assert (place if place.endswith(".py") else f"{place}/") in NAMED, path


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/API.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert targets or name == "CHANGELOG.md"
    assert not [target for target in targets if not ((ROOT / name).parent / target).exists()]


def test_hooks_run_the_programs_of_make_check_and_fetch_nothing() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert "http" not in hooks and re.findall(r"repo: (\S+)", hooks) == ["local"]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    programs = set(re.findall(r"\$\(BIN\)/([a-z-]+)", recipe))
    assert programs == set(re.findall(r"\.venv/bin/([a-z-]+)", hooks))


def test_constraints_pin_what_the_project_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+-]+", line) for line in lines)
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.scripts]")[0]
    wanted = re.findall(
        r'^(?:    |.*\[)"([a-z0-9-]+)(?:\[[a-z0-9,]+\])?(?:[<>=~].*)?",?', project.partition("dependencies = [")[2], re.M
    )
    assert len(wanted) > 25 and {re.sub(r"[-_.]+", "-", name) for name in wanted} <= pinned
