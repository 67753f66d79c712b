from __future__ import annotations

from pathlib import Path

import pytest

from continuum_tasks.config.lines import parse_lines
from continuum_tasks.errors import ConfigError

FILE = Path("/etc/x.conf")


def test_sections_and_entries_remember_their_lines() -> None:
    sections = parse_lines("# head\n\n[a]\nx = 1\n; note\n[b:c]\r\ny = two words \r\n", file=FILE)

    assert [(s.title, s.place.line) for s in sections] == [("[a]", 3), ("[b:c]", 6)]
    assert sections[0].entries["x"].text == "1"
    assert sections[1].entries["y"].text == "two words"
    assert str(sections[1].entries["y"].place) == "/etc/x.conf:7"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[a]\nx = 1\nx = 2\n", 3, "'x' was given before, on line 2"),
        ("[a]\n[b]\n[a]\n", 3, "[a] was given before, on line 1"),
        ("x = 1\n", 1, "before any [section]"),
        ("[a]\nx = 1\n  y = 2\n", 3, "indented"),
        ("[a]\nx = 1 # note\n", 2, "comment behind its value"),
        ("[a]\nx = 1\t; note\n", 2, "comment behind its value"),
        ("[a]\nx: 1\n", 2, "not `key = value`"),
        ("[a]\n= 1\n", 2, "not `key = value`"),
        ("[a] x\n", 1, "not a section"),
        ("[a\n", 1, "not a section"),
        ("[]\n", 1, "not a section"),
        ("[a:]\n", 1, "lacks its name"),
        ("[a]\nx = \x00\n", 2, "does not print"),
        ("[a]\nx = a\u2028b\n", 2, "does not print"),
        ("[a]\nx = 1\ry = 2\n", 2, "does not print"),
    ],
)
def test_a_line_that_is_not_plain_is_refused_with_its_number(text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lines(text, file=FILE)

    assert caught.value.message.startswith(f"/etc/x.conf:{line}: ")
    assert said in caught.value.message
    assert caught.value.hint


def test_a_line_without_a_key_is_not_quoted_because_it_may_be_a_password() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lines("[broker]\nurl redis://:hunter2@h/0\n", file=FILE)

    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
