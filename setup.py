"""Where the wheel keeps `workers` and `beat_schedule`; all else about this project is in pyproject.toml.

Other projects have packages of these names: installed at the top level, one would overwrite the files of the other.
`continuum_tasks/launch.py` finds them in `continuum_tasks/processes`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildProcesses(build_py):
    """Adds the process modules to the package. An editable installation uses those of the checkout."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)  # what an earlier build left there would get into the wheel
        super().run()
        processes = Path(self.build_lib) / "continuum_tasks" / "processes"
        shutil.rmtree(processes, ignore_errors=True)
        shutil.copytree(ROOT / "workers", processes / "workers", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "beat_schedule.py", processes)


setup(cmdclass={"build_py": BuildProcesses})
