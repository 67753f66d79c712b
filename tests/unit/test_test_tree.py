"""Rules of the tests themselves: what is shared is in tests/support, and no test module is imported by another."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.sampling import matrix

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(TESTS.rglob("*.py"))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Return the names that a module imports, each with its module: `tests.support.cli.command`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names += (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
    return tuple(names)


def slice_of(name: str) -> str:
    """Return what a module's name begins with: `tests.unit`, `tests.capture`."""
    return ".".join(name.split(".")[:2])


def test_no_module_imports_a_test_module() -> None:
    found = [(path.name, name) for path in MODULES for name in imported(path) if name.startswith("tests.")]
    assert not [pair for pair in found if re.search(r"\.test_\w+(\.|$)", pair[1])]


def test_what_several_suites_use_is_in_support() -> None:
    wrong = []
    for path in MODULES:
        own = slice_of(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
        names = (name for name in imported(path) if name.startswith("tests."))
        wrong += [(path.name, name) for name in names if slice_of(name) not in (own, "tests.support")]
    assert not wrong


def test_support_imports_no_suite() -> None:
    wrong = [
        (path.name, name)
        for path in (TESTS / "support").glob("*.py")
        for name in imported(path)
        if name.startswith("tests.") and slice_of(name) != "tests.support"
    ]
    assert not wrong


def test_a_test_module_of_the_command_line_starts_it_through_support() -> None:
    """One place knows how `continuum` is run."""
    written = re.compile(r'"-m", "continuum_tasks\.cli"')
    found = [path.name for path in MODULES if written.search(path.read_text(encoding="utf-8"))]
    frozen = "make_v1.py"  # made the golden files of format 1; it is never run again
    assert [name for name in found if name not in (Path(__file__).name, frozen)] == ["cli.py"]


@pytest.mark.parametrize("axes", [("abc", "123456"), ("abc", "1234", "xyz"), ("ab", "12", "xy", "uv")])
def test_a_sample_has_every_value_of_two_axes_and_every_pair_of_more(axes: tuple[str, ...]) -> None:
    sampled = matrix("this test", *axes, whole=False)
    everything = matrix("this test", *axes, whole=True)
    assert set(sampled) < set(everything) and sampled == matrix("this test", *axes, whole=False)
    if len(axes) == 2:
        assert [{row[at] for row in sampled} for at in range(2)] == [set(axis) for axis in axes]
    for one in range(len(axes)):
        for two in range(one + 1, len(axes) if len(axes) > 2 else 0):
            assert {(row[one], row[two]) for row in sampled} == {(a, b) for a in axes[one] for b in axes[two]}


@pytest.fixture(scope="module")
def shared() -> str:
    return "started once"


def test_tests_that_share_a_fixture_of_their_module_are_kept_to_one_worker(request: pytest.FixtureRequest, shared: str) -> None:
    group = "tests/unit/test_test_tree.py"
    assert [mark.args for mark in request.node.iter_markers("xdist_group")] == [(group,)]
    spread = request.config.getoption("loadgroup", False)  # set in a worker of --dist loadgroup
    assert request.node.nodeid.endswith(f"@{group}") == bool(spread)
