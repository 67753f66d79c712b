"""Performance tuning: what is set is used by the workers from the next backup on."""

from __future__ import annotations

import json

from tests.runbook.document import ORIGINAL, OURS, blocks
from tests.runbook.machine import Machine

SLOW, LARGE = "Slow Backups", "Large Backup Size"


def newest(host: Machine) -> dict[str, object]:
    return dict(host.json("backup", "list", "--limit", "1")[0])


def test_our_blocks_for_slow_backups_profile_and_switch_to_lz4(host: Machine) -> None:
    host.create("full")
    with host.shell() as shell:
        profile, change = [shell.paste(block.text) for block in blocks(OURS, SLOW)]
    assert profile.failed == change.failed == ()
    assert "backup_duration_seconds" in profile.out
    assert all(phase in profile.out for phase in ("stage", "hash", "compress", "seal", "upload", "commit"))
    assert newest(host)["codec"] == "lz4"


def test_our_block_for_large_backups_shows_ratios_and_packs_tighter(host: Machine) -> None:
    before = newest(host)
    (block,) = blocks(OURS, LARGE)
    with host.shell() as shell:
        ratios = shell.paste(block.steps()[1])
        decoder, shown, text = json.JSONDecoder(), [], ratios.out.strip()
        while text:
            one, end = decoder.raw_decode(text)
            shown.append(one)
            text = text[end:].strip()
        assert {"id": before["backup_id"], "ratio": before["compression_ratio"]} in shown
        for number, step in block.steps().items():
            assert shell.paste(step).failed == (), (number, step)
    assert newest(host)["strategy"] == "incremental"
    host.create("full")
    after = newest(host)
    assert after["codec"] == "zstd" and after["stored_size_bytes"] < before["stored_size_bytes"]  # type: ignore[operator]


def test_the_original_blocks_work_as_they_stand(host: Machine) -> None:
    with host.shell() as shell:
        for block in (*blocks(ORIGINAL, SLOW), *blocks(ORIGINAL, LARGE)):
            pasted = shell.paste(block.text)
            assert pasted.failed == (), pasted
    shown = {one["setting"].rpartition(".")[2]: one["value"] for one in host.json("backup", "config", "list")}
    assert str(shown["compression_level"]) == "9" and shown["compression_algorithm"] == "zstd"
    assert str(shown["max_concurrent_uploads"]) == "8"


def test_the_setting_that_the_text_names_for_a_locked_database_is_one(host: Machine) -> None:
    host.run("backup", "config", "set", "busy_timeout", "30s")
    assert host.run("backup", "config", "get", "busy_timeout").out == "30s\n"
    host.create("incremental")
