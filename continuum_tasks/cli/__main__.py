"""python -m continuum_tasks.cli: the `continuum` command where no script is installed."""

from __future__ import annotations

from continuum_tasks.cli.main import main

if __name__ == "__main__":
    main()
