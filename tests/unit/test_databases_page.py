"""docs/DATABASES.md names every format and file system that the code knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum_tasks.sqlite.plan.file_systems import LOCAL, SECOND_NAME, SHARED
from continuum_tasks.sqlite.plan.formats import DIRECTORIES, SIGNATURES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "DATABASES.md").read_text()


def part(begin: str, end: str) -> str:
    return PAGE[PAGE.index(begin) : PAGE.index(end)]


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        (LOCAL, part("**Accepted**, because", "**Refused**, because two")),
        (SHARED, part("**Refused**, because two", "**Refused**, because the files")),
        (SECOND_NAME, part("**Refused**, because the files", "**Everything else**")),
    ],
    ids=["accepted", "shared", "second name"],
)
def test_every_file_system_stands_where_the_code_has_it(kinds: frozenset[str], text: str) -> None:
    assert not [kind for kind in sorted(kinds) if f"`{kind}`" not in text]


@pytest.mark.parametrize("what", sorted({one[0] for one in (*SIGNATURES, *DIRECTORIES)}))
def test_every_format_that_is_refused_is_named(what: str) -> None:
    assert what in part("## Formats that are refused", "## Reserved bytes")


def test_the_readme_and_the_settings_lead_to_it() -> None:
    for path in ("README.md", "docs/CONFIGURATION.md", "docs/CLI.md"):
        assert "DATABASES.md" in (ROOT / path).read_text(), path
