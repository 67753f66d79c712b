"""What a capture has other processes do: the backup after a hole, compaction, backups in journal mode."""

from __future__ import annotations

import json

from continuum_tasks.capture.plan.continuity import BYPASSED
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.capture.subcommand import Subcommand

N_SEGMENTS_TO_MERGE = 120  # two minutes of a busy database


class FollowUps:
    """The commands that one database needs, one at a time."""

    def __init__(self, database: str, storage: str, errand: Subcommand) -> None:
        self.trouble = ""
        self._database = database
        self._storage = storage
        self._errand = errand
        self._merged_at = 0

    @property
    def busy(self) -> bool:
        return self._errand.busy

    def base(self, found: CaptureProgress) -> bool:
        """Have a backup made if none stands behind the last resumed commit yet; True once one does."""
        if not found.base_after:
            return False
        returned = self._errand.returned()
        if returned is None:
            if not self._errand.busy and found.published:
                strategy = "full" if found.timeline.reason.startswith(BYPASSED) and found.base_after == 1 else "incremental"
                self._send("create", "--strategy", strategy, "--force", "--storage", found.storage)
            return False
        if not self._told(*returned):
            return False
        stands = _stands_behind(returned[1], found)
        if not stands:
            self._errand.pause()
        return stands

    def proof(self) -> bool | None:
        """Have the state that waits compared with what was captured; True when it is the same, False when it is not."""
        returned = self._errand.returned()
        if returned is None:
            if not self._errand.busy:
                self._errand.send(("backup", "capture", "prove", "--database", self._database, "--format", "json"))
            return None
        same = _document(returned[1]).get("same")  # none of another command, which ended meanwhile
        self._told(0 if same is False else returned[0], returned[1])
        return same if isinstance(same, bool) else None

    def backup(self) -> None:
        """Have a backup of a rollback-journal database made."""
        self._settle()
        if not self._errand.busy:
            self._send("create", "--strategy", "incremental", "--storage", self._storage)

    def compaction(self, n_segments: int) -> None:
        """Have segments merged once enough were shipped, `n_segments` since this process began."""
        self._settle()
        if not self._errand.busy and n_segments - self._merged_at >= N_SEGMENTS_TO_MERGE:
            self._merged_at = n_segments
            self._send("compact", "--storage", self._storage)

    def close(self) -> None:
        """End what still runs."""
        self._errand.close()

    def _settle(self) -> None:
        returned = self._errand.returned()
        if returned is not None:
            self._told(*returned)

    def _told(self, code: int, printed: str) -> bool:
        self.trouble = f"`continuum backup` failed: {_why(printed, code)}" if code else ""
        return not code

    def _send(self, verb: str, *options: str) -> None:
        self._errand.send(("backup", verb, "--database", self._database, *options, "--format", "json"))


def _stands_behind(printed: str, found: CaptureProgress) -> bool:
    """Tell whether the backup that `create --format json` printed, after what else it said, serves restores from there on."""
    position = _document(printed).get("position")
    if not isinstance(position, dict):
        return False
    return position.get("timeline") == found.timeline.id and int(str(position.get("commit", 0))) >= found.base_after


def _why(printed: str, code: int) -> str:
    """Return the message of the error that a command printed, as the last document or as its last line."""
    error = _document(printed).get("error")
    if isinstance(error, dict) and "message" in error:
        return str(error["message"])
    lines = printed.strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"


def _document(printed: str) -> dict[str, object]:
    """Return the JSON document at the end of what a command printed, empty when there is none."""
    begins = [0] if printed.startswith("{") else [at + 1 for at in (printed.find("\n{"),) if at >= 0]
    for at in begins:
        try:
            found, _ = json.JSONDecoder().raw_decode(printed, at)
        except ValueError:
            break
        return found if isinstance(found, dict) else {}
    return {}
