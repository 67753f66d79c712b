"""The README's map, the documentation and the modules agree with the tree; nothing lives twice."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ROOT / "continuum_tasks"
MODULES = sorted([*PRODUCT.rglob("*.py"), *(ROOT / "workers").rglob("*.py"), ROOT / "beat_schedule.py"])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TOP = {"workers/", "beat_schedule.py", "deploy/", "docs/", "examples/", "benchmarks/", "tests/"}


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# The map


def drawn() -> tuple[set[str], set[str]]:
    """Return what the README's map names: below continuum_tasks, and beside it."""
    after = text(ROOT / "README.md").split("## The source in ten seconds", 1)[1]
    lines = after.split("```")[1].strip().splitlines()
    assert lines[0] == "continuum_tasks/"
    inside, outside = set[str](), set[str]()
    for line in lines[1:]:
        leading = re.split(r"\s{2,}", line.strip(), maxsplit=1)[0].split()
        (inside if line.startswith("  ") else outside).update(leading)
    return inside, outside


def test_the_map_names_every_package_and_module_of_the_product_and_no_other() -> None:
    there = {f"{path.name}/" for path in PRODUCT.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in PRODUCT.glob("*.py") if path.name != "__init__.py"}
    assert drawn()[0] == there


def test_the_map_names_what_lies_beside_the_product() -> None:
    assert drawn()[1] == TOP
    assert not [name for name in TOP if not (ROOT / name).exists()]


def test_folders_that_the_map_speaks_of_exist() -> None:
    """`install/` in the line of `restore/` is a folder of it."""
    section = text(ROOT / "README.md").split("## The source in ten seconds", 1)[1].split("```")[1]
    gone = []
    for line in section.splitlines():
        if match := re.match(r"(  )?([a-z_]+)/\s{2,}(.+)", line):
            home = PRODUCT / match[2] if match[1] else ROOT / match[2]
            gone += [name for name in re.findall(r"(?<![\w/])([a-z_]+)/(?!\w)", match[3]) if not (home / name).is_dir()]
    assert not gone


# The pages


def exists(module: str) -> bool:
    """Tell whether `capture/agent.py`, `agent.py` or `continuum_tasks/capture/agent.py` is a file of the tree."""
    tail = f"/{module}"
    return any(f"/{name_of(path)}".endswith(tail) for path in every_python_file())


@cache
def every_python_file() -> tuple[Path, ...]:
    homes = (PRODUCT, *(ROOT / name for name in ("workers", "tests", "deploy", "benchmarks")))
    return (*(path for home in homes for path in home.rglob("*.py")), ROOT / "beat_schedule.py")


@cache
def modules() -> frozenset[str]:
    """Return the dotted names of the product's modules and packages, without `continuum_tasks.`."""
    names = {name_of(path)[:-3].removesuffix("/__init__").replace("/", ".") for path in MODULES}
    return frozenset(name.removeprefix("continuum_tasks.") for name in names)


def absent_files(page: str) -> list[str]:
    return [path for path in re.findall(r"`((?:[\w-]+/)*\w+\.py)`", page) if not exists(path)]


def absent_modules(page: str) -> list[str]:
    """Return the dotted names in backticks that begin with a package of the product and name nothing in it."""
    packages = {name.split(".")[0] for name in modules() if "." in name} | {"actions", "plan", "page"}
    absent = []
    for dotted in re.findall(r"`(?:continuum_tasks\.)?([a-z_0-9]+(?:\.\w+)+)(?:\(\))?`", page):
        parent, _, last = dotted.rpartition(".")
        if dotted.split(".")[0] not in packages or dotted in modules() or last in ("conf", "db", "json", "log", "py"):
            continue
        if parent not in modules() or not defines(parent, last):
            absent.append(dotted)
    return absent


def defines(module: str, name: str) -> bool:
    homes = (ROOT, PRODUCT)
    files = [home / f"{module.replace('.', '/')}.py" for home in homes]
    return any(path.exists() and re.search(rf"\b{name}\b", text(path)) for path in files)


SETTINGS = {"backup.log.1", "backup.compression_level"}  # a log file and a setting, not modules


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_no_module_that_is_gone(page: Path) -> None:
    assert not absent_files(text(page))
    assert not [name for name in absent_modules(text(page)) if name not in SETTINGS]


def test_a_module_that_is_gone_is_seen() -> None:
    assert absent_files("`capture/agent.py`, `capture/watch.py`, `manifest.py`") == ["capture/watch.py", "manifest.py"]
    assert absent_modules("`backup.create`, `actions.backup`, `history.chain.usable`, `layer.merge`, `capture.watch`") == [
        "actions.backup",
        "layer.merge",
        "capture.watch",
    ]


def test_every_module_says_what_it_is_for_and_not_where_it_lies() -> None:
    """A path in a docstring would be wrong after the next move."""
    stated = {name_of(path): ast.get_docstring(ast.parse(text(path))) or "" for path in MODULES if path.name != "__init__.py"}
    assert not [name for name, words in stated.items() if not words or re.match(r"TODO|[\w/]+\.py:", words)]


# Names and sizes

NAMES_THAT_MAY_REPEAT = {
    "main": "where a process begins; nothing imports it but what starts that process",
}
MAX_LINES, MIN_LINES = 400, 40
SHORT = {
    "continuum_tasks/capture/descriptors.py": "how many files this process may open, apart from what opens them",
    "continuum_tasks/capture/reader/first_page.py": "one file format of its own",
    "continuum_tasks/capture/state/fence.py": "one file of a capture's directory",
    "continuum_tasks/capture/state/restored.py": "one file of a capture's directory, written by restores",
    "continuum_tasks/cli/__main__.py": "python -m continuum_tasks.cli",
    "continuum_tasks/cli/setup/up.py": "one command",
    "continuum_tasks/clock.py": "the ground: a value that every slice takes",
    "continuum_tasks/host/catalog_links.py": "shared by restore and verify",
    "continuum_tasks/restore/plan/space.py": "a decision without I/O",
    "continuum_tasks/retention/hold.py": "one capability",
    "continuum_tasks/sample/__main__.py": "python -m continuum_tasks.sample",
    "continuum_tasks/setup/fitness.py": "shared by init and changes of settings",
    "continuum_tasks/tasks/backup.py": "the task of one job kind; those of others are longer",
    "continuum_tasks/tasks/compact.py": "the task of one job kind; those of others are longer",
    "continuum_tasks/tasks/transfer.py": "the task of one job kind; those of others are longer",
    "continuum_tasks/units.py": "the ground: text and instants that every slice uses",
    "continuum_tasks/wal/weights.py": "the arithmetic of SQLite's checksum",
    "workers/app.py": "what Celery imports by name",
    "workers/queues.py": "what Celery's settings and the pools share",
    "workers/timetable.py": "what Celery's beat imports by name",
}


def definitions() -> dict[str, list[str]]:
    """Return where each public function and class is defined; the sample stands alone and is not counted."""
    found = defaultdict[str, list[str]](list)
    for path in MODULES:
        if PRODUCT / "sample" not in path.parents:
            for node in ast.parse(text(path)).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(name_of(path))
    return found


def test_a_public_name_is_defined_once() -> None:
    repeated = {name: places for name, places in definitions().items() if len(places) > 1}
    assert {name: places for name, places in repeated.items() if name not in NAMES_THAT_MAY_REPEAT} == {}
    assert NAMES_THAT_MAY_REPEAT.keys() <= repeated.keys(), "take off the list what is defined once by now"


def length(path: Path) -> int:
    return len(text(path).splitlines())


def test_no_module_is_longer_than_400_lines() -> None:
    assert {name_of(path): length(path) for path in MODULES if length(path) > MAX_LINES} == {}


def test_a_module_of_under_40_lines_has_a_reason_to_be_one() -> None:
    """The reason is in the list; `__init__.py` has none to give."""
    short = {name_of(path) for path in MODULES if path.name != "__init__.py" and length(path) < MIN_LINES}
    assert short - SHORT.keys() == set()


@cache
def imports() -> frozenset[str]:
    """Return what modules outside the tests import, as `package.module` and `package.module.name`."""
    names = set[str]()
    for path in every_python_file():
        if ROOT / "tests" not in path.parents:
            for node in ast.walk(ast.parse(text(path))):
                if isinstance(node, ast.ImportFrom):
                    names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
                elif isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
    return frozenset(names)


STARTED_BY_NAME = ("continuum_tasks.cli.", "continuum_tasks.tasks.", "workers.")  # by the registry, Celery or python -m
STARTED = {"continuum_tasks.capture.pins.process", "continuum_tasks.restore.install.guard"}  # processes of their own
CALLED = {"continuum_tasks.api"}  # by the programs of others


def test_every_module_is_imported_by_another_or_started_by_name() -> None:
    """What only tests import is dead."""
    names = {name_of(path)[:-3].replace("/", ".") for path in MODULES if not path.name.startswith("__")}
    by_name = {name for name in names if name.startswith(STARTED_BY_NAME)} | {"beat_schedule"}
    assert names - imports() - by_name == STARTED | CALLED
