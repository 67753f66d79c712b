"""How a backup and a verdict are written out: as JSON fields, and as words for people."""

from __future__ import annotations

from typing import Any

from continuum_tasks.cli.frame.output import moment, size
from continuum_tasks.model import Attestation, Backup
from continuum_tasks.repository.documents import to_json

_FIRST = ("strategy", "status")


def backup_fields(backup: Backup) -> dict[str, Any]:
    """Return the JSON fields of a backup: its own, with its id as `backup_id`, and what follows from them."""
    values = to_json(backup)
    named = {"backup_id": values.pop("id"), **{name: values.pop(name) for name in _FIRST}}
    return {**named, "verified": backup.verified, "compression_ratio": backup.compression_ratio, **values}


def verdict_fields(verdict: Attestation) -> dict[str, Any]:
    """Return the JSON fields of a verdict; row counts as an object of table and rows."""
    return {**to_json(verdict), "row_counts": dict(verdict.row_counts)}


def verified_word(backup: Backup) -> str:
    """Return `yes`, `no` or, when the newest verdict is bad, `failed`."""
    if backup.verified:
        return "yes"
    return "no" if backup.failed_at is None else "failed"


def backup_facts(backup: Backup) -> list[tuple[str, str]]:
    """Return what people want to know of a backup, in order."""
    cipher = f"{backup.cipher}, key {backup.key_id}" if backup.key_id else str(backup.cipher)
    reasons = [("suspect because", reason) for reason in backup.suspect_reasons]
    return [
        ("backup", backup.id),
        ("database", f"{backup.database}, on {backup.host}"),
        ("storage", backup.storage),
        ("strategy", f"{backup.strategy}, builds on {backup.parent_id}" if backup.parent_id else str(backup.strategy)),
        ("status", str(backup.status)),
        *reasons,
        ("verified", verified_word(backup)),
        ("created", f"{moment(backup.created_at)} UTC, finished {moment(backup.finished_at)}"),
        ("database size", f"{size(backup.original_size_bytes)}: {backup.n_pages} pages of {backup.page_size} bytes"),
        ("stored size", f"{size(backup.stored_size_bytes)} for {size(backup.layer_size_bytes)} of pages, {backup.codec}"),
        ("encryption", cipher),
    ]
