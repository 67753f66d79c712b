"""A runbook as its reader sees it: headings, and under each the blocks to paste."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

HERE = Path(__file__).resolve().parent
OURS = HERE.parent.parent / "docs" / "RUNBOOK.md"
ORIGINAL = HERE / "original.md"  # the runbook that came before ours: every block of it still has to work


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What is pasted at once, under which headings (outermost first)."""

    headings: tuple[str, ...]
    text: str

    def lines(self) -> Iterator[str]:
        """Yield commands: comments gone, continued lines joined."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield line.strip()

    def steps(self) -> dict[int, str]:
        """Return the text of each numbered step, as in `# 3. Restore`; what stands before the first is with it."""
        parts = re.split(r"(?m)^(?=# \d+\.)", self.text)
        found = {int(part[2 : part.index(".")]): part for part in parts if part.startswith("# ")}
        first = min(found)
        return {**found, first: parts[0] + found[first]} if parts[0] != found[first] else found


def blocks(document: Path, *headings: str) -> list[Block]:
    """Return the bash blocks under a heading; of more headings, each a part of one that encloses the block."""
    found: list[Block] = []
    path: list[str] = []
    fence: list[str] | None = None
    for line in document.read_text(encoding="utf-8").splitlines():
        if fence is None and (head := re.match(r"(#+) (.*)", line)):
            path = [*path[: len(head[1]) - 1], head[2]]
        elif fence is None and line.strip() == "```bash":
            fence = []
        elif fence is not None and line.strip() == "```":
            found.append(Block(headings=tuple(path), text=dedent("\n".join(fence))))
            fence = None
        elif fence is not None:
            fence.append(line)
    kept = [block for block in found if all(any(part in head for head in block.headings) for part in headings)]
    assert kept, f"{document.name} has no block under {headings}"
    return kept


def continuum_lines(document: Path) -> list[tuple[tuple[str, ...], str]]:
    """Return every command line of ours in the blocks, those inside $(...) by themselves, with its headings."""
    return [(block.headings, line) for block in blocks(document, "") for whole in block.lines() for line in _ours(whole)]


def _ours(line: str) -> Iterator[str]:
    line = re.sub(r"<[a-z-]+>|<[A-Z]+>", "VALUE", line)
    inner = re.findall(r"\$\((continuum [^()]*)\)", line)
    outer = re.sub(r"\$\([^()]*\)", "VALUE", line)
    for part in (*inner, outer):
        for piece in _pieces(part):
            if piece.startswith("continuum "):
                yield piece


def _pieces(line: str) -> Iterator[str]:
    """Split at pipes, lists and redirections outside quotes."""
    words = shlex.shlex(line, posix=False, punctuation_chars="|&;<>")
    words.whitespace_split = True
    words.commenters = "#"
    piece: list[str] = []
    skip = False
    for word in words:
        if word[0] in "<>":
            skip = True
        elif word[0] in "|&;":
            yield " ".join(piece)
            piece = []
        elif skip:
            skip = False
        else:
            piece.append(word)
    yield " ".join(piece)
