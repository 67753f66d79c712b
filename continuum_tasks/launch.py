"""Start processes of this installation: `python -P .../continuum_tasks/launch.py MODULE WORDS...`.

`workers` and `beat_schedule` are names that other projects use too, and Python takes the first one on its path: the current
directory, PYTHONPATH, site-packages. Here they come from where this file lies, whatever the path says: the folder
`processes` of an installed package, the directory above in a checkout. Nothing is added to the path or the environment, so
the programs that these processes run find their own packages.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NoReturn

PACKAGE = Path(__file__).resolve().parent
_INCOMPLETE = 3


def own_command(module: str, *words: str) -> tuple[str, ...]:
    """Return the command line that runs a module, ours or Celery, in a process where `workers` is ours.

    Runs by location: it works from every directory, also where nothing of ours is on Python's path.
    """
    return (sys.executable, "-P", str(PACKAGE / "launch.py"), module, *words)


def become_module(module: str, *words: str, environment: Mapping[str, str]) -> NoReturn:
    """Let this process become the program `python -m MODULE WORDS...`; standard output is flushed before.

    The programs of `workers` stand above this package, which imports nothing of them: a command that is one of them ends here
    and the process goes on as it, so a supervisor that started the command also stops it.
    """
    sys.stdout.flush()
    os.execve(sys.executable, own_command(module, *words), dict(environment))  # noqa: S606


class OwnModules(MetaPathFinder):
    """Finds our top-level modules where this installation has them, before anything on the path."""

    def __init__(self, package: Path) -> None:
        processes = package / "processes"
        root = processes if processes.is_dir() else package.parent
        self.files = {
            "continuum_tasks": package / "__init__.py",
            "workers": root / "workers" / "__init__.py",
            "beat_schedule": root / "beat_schedule.py",
        }

    def missing(self) -> Path | None:
        """Return a file that this installation should have and has not."""
        wanted = (*self.files.values(), self.files["workers"].with_name("stack.py"))
        return next((path for path in wanted if not path.is_file()), None)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self.files.get(fullname)
        if file is None:
            return None
        folders = [str(file.parent)] if file.name == "__init__.py" else None
        return spec_from_file_location(fullname, file, submodule_search_locations=folders)


def main() -> None:
    """Run the module named first as the program of this process, with the other words as its arguments."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m continuum_tasks.launch MODULE [WORDS]")
    finder = OwnModules(PACKAGE)
    missing = finder.missing()
    if missing is not None:
        print(f"error: {missing}: not there, so this installation is not complete", file=sys.stderr)  # noqa: T201
        print("hint: install continuum-backup again", file=sys.stderr)  # noqa: T201
        sys.exit(_INCOMPLETE)
    sys.meta_path.insert(0, finder)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
