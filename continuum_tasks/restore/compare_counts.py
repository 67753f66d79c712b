"""Compare the rows of a backup with those of a database, table by table."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import BackupId, Level, Progress
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.live import row_counts
from continuum_tasks.verify import verify


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCount:
    """Rows of one table; None where it does not exist on that side."""

    table: str
    backup: int | None
    database: int | None

    @property
    def difference(self) -> int:
        return (self.database or 0) - (self.backup or 0)

    @property
    def same(self) -> bool:
        return self.backup == self.database


def compare_counts_of(
    backup_id: BackupId, database: Path, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, tuple[TableCount, ...]]:
    """Compare; the backup's counts come from its newest passed `restore` verdict, else it is verified now.

    Raises what `verify_backup_chain` raises, SourceMissing or SourceRefused for the database.
    """
    source = inspect(database, accepted=site.accepts(database))
    counted = yield from _counts_of(backup_id, repository=repository, site=site, fan=fan)
    live = dict(row_counts(source.path))
    return tuple(
        TableCount(table=table, backup=counted.get(table), database=live.get(table)) for table in sorted(counted | live)
    )


def _counts_of(
    backup_id: BackupId, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, dict[str, int]]:
    known = [a for a in site.catalog.attestations(repository.name, backup_id) if a.passed and a.level is Level.RESTORE]
    if known:
        return dict(known[-1].row_counts)
    request = verify.VerifyRequest(backup_id=backup_id, level=Level.RESTORE)
    verified = yield from verify.verify_backup_chain(request, repository=repository, site=site, fan=fan)
    return dict(verified.attestation.row_counts)
