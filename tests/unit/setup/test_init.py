from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.config import StorageType, load_config, parse_storage_url
from continuum_tasks.config.values import is_database_name
from continuum_tasks.errors import ConfigError, KeyringError
from continuum_tasks.keyring import generate_key, open_keyring
from continuum_tasks.model import Cipher
from continuum_tasks.setup import init
from continuum_tasks.setup.init import InitRequest
from tests.support import other

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def request(root: Path, **changes) -> InitRequest:
    wanted = {"config_dir": root / "etc", "database": root / "memory.db", "storage": str(root / "backups")}
    return InitRequest(**(wanted | changes))


def run(asked: InitRequest) -> init.Initialized:
    return init.initialise(asked, now=NOW, random_bytes=os.urandom)


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(root)): (stat.S_IMODE(p.stat().st_mode), p.read_bytes() if p.is_file() else b"")
        for p in sorted(root.rglob("*"))
    }


def test_it_makes_a_configuration_that_loads(tmp_path: Path) -> None:
    (tmp_path / "memory.db").touch()

    done = run(request(tmp_path))

    config = load_config(tmp_path / "etc", environment={"CONTINUUM_HOST": "h"})
    assert config.database("").path == tmp_path / "memory.db"
    assert config.default_database == "memory"
    assert config.storage("").path == tmp_path / "backups"
    assert config.default_storage == "local"
    assert open_keyring(config.keys_dir).fingerprint(config.backup.encryption_key_id) == done.key_fingerprint
    assert done.warnings == ()


def test_everything_it_makes_is_private_and_inside_the_sandbox(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        run(request(tmp_path))
    finally:
        os.umask(before)

    assert {name: mode for name, (mode, _) in tree(tmp_path).items()} == {
        "backups": 0o700,
        "etc": 0o700,
        "etc/backup.conf": 0o600,
        "etc/keys": 0o700,
        "etc/keys/backup-key-v1.key": 0o600,
        "etc/retention.conf": 0o600,
        "etc/state": 0o700,
        "etc/storage.conf": 0o600,
    }


@pytest.mark.parametrize("kept", ["backup.conf", "storage.conf", "retention.conf"])
def test_a_second_run_is_refused_and_changes_nothing(tmp_path: Path, kept: str) -> None:
    run(request(tmp_path))
    for name in {"backup.conf", "storage.conf", "retention.conf"} - {kept}:
        (tmp_path / "etc" / name).unlink()
    before = tree(tmp_path)

    with pytest.raises(ConfigError, match="already initialised") as caught:
        run(request(tmp_path, storage=str(tmp_path / "elsewhere")))

    assert tree(tmp_path) == before
    assert caught.value.hint


def test_the_operator_is_told_what_losing_the_key_means_and_how_to_keep_it(tmp_path: Path) -> None:
    done = run(request(tmp_path))

    said = "\n".join(done.advice)
    assert "if you lose the key, you lose the backups" in said
    assert str(done.key_path) in said
    assert "print it" in said
    assert f"continuum init --key-file COPY --storage {tmp_path}/backups" in said
    assert "continuum backup list --storage local" in said


def test_without_encryption_there_is_no_key_and_it_says_so(tmp_path: Path) -> None:
    done = run(request(tmp_path, encryption=Cipher.NONE))

    assert done.key_path is None
    assert not (tmp_path / "etc" / "keys").exists()
    assert "encryption is off" in done.advice[0]
    assert load_config(tmp_path / "etc").backup.encryption is Cipher.NONE


def test_a_blank_machine_adopts_the_key_of_an_existing_repository(tmp_path: Path) -> None:
    copy = generate_key(tmp_path / "usb", "their-key-v7", random_bytes=os.urandom, now=NOW)

    done = run(request(tmp_path, key_file=copy))

    assert done.key_path == tmp_path / "etc" / "keys" / "their-key-v7.key"
    assert done.key_path.read_bytes() == copy.read_bytes()
    assert load_config(tmp_path / "etc").backup.encryption_key_id == "their-key-v7"


def test_a_bad_key_file_is_refused_before_the_first_change(tmp_path: Path) -> None:
    (tmp_path / "typed.txt").write_text("CONTINUUM BACKUP KEY 1\nid x\n")

    with pytest.raises(KeyringError, match="lacks"):
        run(request(tmp_path, key_file=tmp_path / "typed.txt"))
    with pytest.raises(ConfigError, match="encryption is off"):
        run(request(tmp_path, key_file=tmp_path / "typed.txt", encryption=Cipher.NONE))

    assert [p.name for p in tmp_path.iterdir()] == ["typed.txt"]


def test_a_key_that_an_interrupted_run_left_is_kept(tmp_path: Path) -> None:
    left = generate_key(tmp_path / "etc" / "keys", "backup-key-v1", random_bytes=os.urandom, now=NOW)
    before = left.read_bytes()

    assert run(request(tmp_path)).key_path == left
    assert left.read_bytes() == before


def test_an_s3_storage_is_named_s3_and_its_advice_leads_back_to_it(tmp_path: Path) -> None:
    url = "s3://bucket/a/b?endpoint=http://127.0.0.1:9000&region=us-west-2&checksum_mode=required"

    done = run(request(tmp_path, storage=url))

    storage = load_config(tmp_path / "etc").storage("s3")
    assert (storage.type, storage.bucket, storage.prefix) == (StorageType.S3, "bucket", "a/b")
    line = next(line for line in done.advice if "--key-file" in line)
    assert parse_storage_url(line.split("--storage ")[1].strip("'"), "s3") == storage
    assert urlsplit(url).scheme == "s3"
    assert not (tmp_path / "backups").exists()


def test_a_missing_database_is_only_a_warning(tmp_path: Path) -> None:
    done = run(request(tmp_path))

    assert len(done.warnings) == 1
    assert str(tmp_path / "memory.db") in done.warnings[0]


def test_directories_that_are_there_are_used_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups").chmod(0o777)
    (tmp_path / "backups" / "kept").touch()

    done = run(request(tmp_path))

    assert stat.S_IMODE((tmp_path / "backups").stat().st_mode) == 0o777
    assert any("others may write" in line and "chmod go-w" in line for line in done.warnings)
    assert (tmp_path / "backups" / "kept").exists()


@pytest.mark.parametrize("changes", [{"database": Path("/")}, {"storage": "gs://x"}, {"storage": "s3://b"}, {"storage": ""}])
def test_what_cannot_work_is_refused_before_the_first_change(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        run(request(tmp_path, **changes))

    assert not list(tmp_path.iterdir())


def test_keys_inside_the_storage_are_refused_before_the_first_change(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds keys_dir"):
        run(request(tmp_path, storage=str(tmp_path)))

    assert not list(tmp_path.iterdir())


def test_a_keys_directory_open_to_others_is_refused_before_the_first_change(tmp_path: Path) -> None:
    (tmp_path / "etc" / "keys").mkdir(parents=True)
    (tmp_path / "etc" / "keys").chmod(0o755)
    before = tree(tmp_path)

    with pytest.raises(KeyringError, match="may enter"):
        run(request(tmp_path))

    assert tree(tmp_path) == before


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="file/etc: cannot be made"):
        run(request(tmp_path, config_dir=tmp_path / "file" / "etc"))


def test_a_user_without_rights_is_told_so_and_nothing_changes(folder: Path) -> None:
    locked = folder / "locked"
    locked.mkdir(mode=0)
    with other.unprivileged(folder), pytest.raises(ConfigError, match=r"locked/etc: cannot be made: permission denied"):
        run(request(locked))
    locked.chmod(0o700)
    assert not list(locked.iterdir())


def test_without_options_it_plans_the_runbooks_paths() -> None:
    config = init.plan_configuration(InitRequest(config_dir=Path("/etc/continuum")), key_id="backup-key-v1")

    assert str(config.database("").path) == "/var/lib/continuum/memory.db"
    assert str(config.storage("").path) == "/var/backups/continuum"
    assert str(config.keys_dir) == "/etc/continuum/keys"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("memory.db", "memory"),
        ("My Memory.db", "my-memory"),
        ("2024.db", "db_2024"),
        ("memory-2.db", "memory_2"),
        ("a--b-.db", "a-b"),
        ("Ünïcode.db", "n-code"),
        (".db", "db"),
        ("日本.db", "memory"),
        ("x" * 100, "x" * 64),
    ],
)
def test_a_database_is_named_for_its_file(file: str, name: str) -> None:
    assert init.database_name_for(Path("/srv") / file) == name


@given(stem=st.text(min_size=1, max_size=80).filter(lambda t: "/" not in t and "\x00" not in t))
def test_every_file_name_gives_a_name_that_is_allowed(stem: str) -> None:
    assert is_database_name(init.database_name_for(Path("/srv") / stem))
