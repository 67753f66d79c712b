"""Small valid .conf texts that tests bend."""

from __future__ import annotations

from pathlib import Path

from continuum_tasks.config import Config, load_config

BACKUP = "[database:memory]\npath = /srv/memory.db\n"
STORAGE = "[storage:local]\ntype = local\npath = /srv/backups\n"
RETENTION = "[retention]\n"


def write(directory: Path, *, backup: str = BACKUP, storage: str = STORAGE, retention: str = RETENTION) -> Path:
    for name, text in (("backup.conf", backup), ("storage.conf", storage), ("retention.conf", retention)):
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def load(
    directory: Path, *, backup: str = BACKUP, storage: str = STORAGE, retention: str = RETENTION, host: str = ""
) -> Config:
    write(directory, backup=backup, storage=storage, retention=retention)
    return load_config(directory, environment={"CONTINUUM_HOST": host})
