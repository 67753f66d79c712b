"""A shell that blocks are pasted into, one after the other, and that tells which lines failed."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PASTE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pasted:
    """What a block printed, and the commands in it that failed, each with its exit code."""

    out: str
    err: str
    failed: tuple[tuple[int, str], ...]


@dataclass(slots=True, kw_only=True)
class Shell:
    """An open bash. Variables that one block sets are there in the next."""

    process: subprocess.Popen[str]
    place: Path
    mapped: Callable[[str], str]
    n_pasted: int = 0

    @classmethod
    @contextmanager
    def opened(cls, *, cwd: Path, environment: Mapping[str, str], mapped: Callable[[str], str]) -> Iterator[Shell]:
        """Open a shell in a directory; it ends with the block."""
        place = Path(tempfile.mkdtemp(prefix="pasted", dir=cwd))
        process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield cls(process=process, place=place, mapped=mapped)
        finally:
            process.kill()
            process.communicate()

    def paste(self, text: str) -> Pasted:
        """Paste a block, let every line of it run, and return what came of it."""
        self.n_pasted += 1
        script, out, err, failed = (self.place / f"{self.n_pasted}.{end}" for end in ("sh", "out", "err", "failed"))
        script.write_text(self.mapped(text) + "\n")
        failed.touch()
        assert self.process.stdin is not None and self.process.stdout is not None
        trap = f"""trap 'code=$?; printf "%s %s\\0" $code "$BASH_COMMAND" >>"{failed}"' ERR"""
        self.process.stdin.write(f'{trap}; . "{script}" </dev/null >"{out}" 2>"{err}"; trap - ERR; echo pasted\n')
        self.process.stdin.flush()
        watchdog = threading.Timer(PASTE_SECONDS, self.process.kill)
        watchdog.start()
        answer = self.process.stdout.readline()
        watchdog.cancel()
        assert answer == "pasted\n", (answer, text, out.read_text(), err.read_text())
        return Pasted(out=out.read_text(), err=err.read_text(), failed=self._failed(failed.read_text(), script))

    def _failed(self, text: str, script: Path) -> tuple[tuple[int, str], ...]:
        each = (entry.partition(" ") for entry in text.split("\0") if entry)
        return tuple((int(code), line) for code, _, line in each if not line.startswith(f'. "{script}"'))

    def value(self, name: str) -> str:
        """Return what a variable holds."""
        return self.paste(f'printf %s "${name}"').out
