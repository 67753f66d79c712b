"""What an S3 storage promises beyond the conformance suite, against two real servers and one that is bad on purpose."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import multiprocessing
import os
import random
import socket
import threading
import time
import traceback
import tracemalloc
from base64 import b64encode
from pathlib import Path

import pytest

from continuum_tasks.errors import (
    ConfigError,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnreachable,
)
from continuum_tasks.storage.retrying import Retrying, RetryPolicy
from continuum_tasks.storage.s3 import S3Settings, S3Storage
from tests.storage.conftest import settings_for
from tests.storage.fake_s3 import Behaviour, fake_s3
from tests.storage.proxy import proxy_to
from tests.support.servers import S3Server, free_port, open_client

MIB = 1024 * 1024
FAST = RetryPolicy(attempts=6, base_seconds=0.01, cap_seconds=0.05, deadline_seconds=30)


def random_bytes(n_bytes: int) -> bytes:
    return random.Random(2).randbytes(n_bytes)


def fake_settings(endpoint: str, directory: Path, /, **changes: object) -> S3Settings:
    path = directory / "keys"
    path.touch(0o600)
    path.write_text("[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = verysecretvalue\n")
    given = {"name": "fake", "bucket": "b", "endpoint": endpoint, "credentials_file": path, "max_concurrent_uploads": 2}
    return S3Settings(**{**given, **changes})  # type: ignore[arg-type]


# ---- what the servers can do


def test_the_probe_tells_a_server_that_honours_conditions_from_one_that_does_not(
    ministack: S3Server, rclone: S3Server, tmp_path: Path
) -> None:
    assert S3Storage(settings_for(ministack, tmp_path)).capabilities().conditional_put is True
    assert S3Storage(settings_for(rclone, tmp_path)).capabilities().conditional_put is False


def test_a_server_that_says_412_but_replaces_the_object_is_found_out(tmp_path: Path) -> None:
    behaviour = Behaviour(claims_condition_but_replaces=True)
    with fake_s3(behaviour) as endpoint:
        storage = S3Storage(fake_settings(endpoint, tmp_path))
        assert storage._honours_conditions() is False
        behaviour.claims_condition_but_replaces = False
        assert S3Storage(fake_settings(endpoint, tmp_path))._honours_conditions() is True
    assert behaviour.objects == {}


@pytest.mark.parametrize("answer", [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_server_that_refuses_the_header_still_takes_create_only_puts(tmp_path: Path, answer: tuple[int, str]) -> None:
    behaviour = Behaviour(answers=[answer])
    with fake_s3(behaviour) as endpoint:
        storage = S3Storage(fake_settings(endpoint, tmp_path))
        assert storage._honours_conditions() is False


def test_versioning_and_object_lock_are_seen(ministack: S3Server, tmp_path: Path) -> None:
    client = open_client(ministack)
    client.create_bucket(Bucket="locked-bucket", ObjectLockEnabledForBucket=True)
    found = S3Storage(settings_for(ministack, tmp_path, bucket="locked-bucket")).capabilities()
    assert (found.versioning, found.object_lock) == (True, True)
    found = S3Storage(settings_for(ministack, tmp_path)).capabilities()
    assert (found.versioning, found.object_lock) == (False, False)


# ---- checksums


def test_sha256_is_stored_with_the_object_where_the_server_supports_it(ministack: S3Server, tmp_path: Path) -> None:
    settings = settings_for(ministack, tmp_path, checksum_mode="supported", multipart_bytes=5 * MIB)
    storage = S3Storage(settings)
    data = random_bytes(11 * MIB)
    storage.put("whole", data[:MIB])
    storage.put("parts", data)
    assert storage.get("whole") == data[:MIB]
    assert storage.get("parts") == data
    head = open_client(ministack).head_object(Bucket=settings.bucket, Key=f"{settings.prefix}/whole", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == b64encode(hashlib.sha256(data[:MIB]).digest()).decode()
    head = open_client(ministack).head_object(Bucket=settings.bucket, Key=f"{settings.prefix}/parts", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"].endswith("-3")


def test_both_checksum_modes_work_on_both_servers(settings: S3Settings) -> None:
    for mode in ("auto", "required", "supported"):
        storage = S3Storage(dataclasses.replace(settings, checksum_mode=mode))
        storage.put(f"{mode}/k", b"data" * 1000)
        assert storage.get(f"{mode}/k") == b"data" * 1000


@pytest.mark.parametrize(
    ("endpoint", "mode", "sha256"),
    [
        (None, "auto", True),
        ("https://s3.eu-west-1.amazonaws.com", "auto", True),
        ("https://minio.example.org", "auto", False),
        ("https://minio.example.org", "supported", True),
        (None, "required", False),
    ],
)
def test_auto_sends_sha256_to_aws_and_md5_elsewhere(endpoint: str | None, mode: str, sha256: bool) -> None:
    assert S3Settings(bucket="b", endpoint=endpoint, checksum_mode=mode).sends_sha256 is sha256


def test_a_server_that_stores_other_bytes_with_a_200_is_caught_and_the_object_removed(tmp_path: Path) -> None:
    behaviour = Behaviour(corrupt=True)
    with fake_s3(behaviour) as endpoint, pytest.raises(ObjectDamaged, match="other bytes"):
        S3Storage(fake_settings(endpoint, tmp_path)).put("k", b"data")
    assert behaviour.objects == {}


def test_a_server_whose_etag_is_no_md5_is_believed_after_reading_back(tmp_path: Path) -> None:
    behaviour = Behaviour(etag="0" * 32)
    with fake_s3(behaviour) as endpoint:
        storage = S3Storage(fake_settings(endpoint, tmp_path))
        storage.put("k", b"data")
        behaviour.corrupt = True
        with pytest.raises(ObjectDamaged):
            storage.put("k", b"data")


# ---- parts


def test_a_large_object_goes_up_in_parts(ministack: S3Server, tmp_path: Path) -> None:
    settings = settings_for(ministack, tmp_path)
    data = random_bytes(40 * MIB)
    S3Storage(settings).put("big", data)
    head = open_client(ministack).head_object(Bucket=settings.bucket, Key=f"{settings.prefix}/big")
    assert head["ETag"].strip('"').endswith("-3")


def test_a_reset_in_the_middle_of_a_part_leaves_no_upload_and_no_object(server: S3Server, tmp_path: Path) -> None:
    with proxy_to(server.endpoint) as proxy:
        settings = settings_for(server, tmp_path, endpoint=proxy.endpoint, multipart_bytes=5 * MIB)
        proxy.cut_after = [7 * MIB]
        with pytest.raises(StorageUnreachable):
            S3Storage(settings).put("big", random_bytes(20 * MIB))
        assert proxy.n_resets == 1
    client = open_client(server)
    assert client.list_multipart_uploads(Bucket=server.bucket).get("Uploads", []) == []
    assert list(S3Storage(dataclasses.replace(settings, endpoint=server.endpoint)).list()) == []


# ---- the network


def test_puts_and_gets_come_through_a_network_that_keeps_resetting(server: S3Server, tmp_path: Path) -> None:
    data = random_bytes(12 * MIB)
    with proxy_to(server.endpoint) as proxy:
        settings = settings_for(server, tmp_path, endpoint=proxy.endpoint, multipart_bytes=5 * MIB)
        storage = Retrying(S3Storage(settings), FAST)
        proxy.cut_after = [100, 6 * MIB, 500_000]
        storage.put("big", data)
        proxy.cut_after = [3 * MIB, 0, 11 * MIB]
        for _ in range(2):
            assert Retrying(S3Storage(settings), FAST).get("big") == data
        assert proxy.n_resets == 6


def test_a_create_only_put_whose_answer_is_cut_off_is_still_ours(ministack: S3Server, tmp_path: Path) -> None:
    data = random_bytes(100_000)
    with proxy_to(ministack.endpoint) as proxy:
        storage = S3Storage(settings_for(ministack, tmp_path, endpoint=proxy.endpoint))
        storage.capabilities()
        storage._processes.clear()
        # one connection that lets the whole request through and cuts its answer
        proxy.cut_after = [len(data) + 1100]
        Retrying(storage, FAST).put("lease", data, only_new=True)
        assert proxy.n_resets == 1
        assert storage.get("lease") == data


def test_an_endpoint_nobody_listens_on_is_unreachable_within_seconds(tmp_path: Path) -> None:
    storage = S3Storage(fake_settings(f"http://127.0.0.1:{free_port()}", tmp_path))
    begun = time.monotonic()
    calls = (
        lambda: storage.get("k"),
        lambda: storage.put("k", b"x"),
        lambda: list(storage.list()),
        lambda: storage.stat("k"),
        lambda: storage.delete("k"),
        storage.capabilities,
    )
    for call in calls:
        with pytest.raises(StorageUnreachable, match=r"storage fake .*: object"):
            call()
    assert time.monotonic() - begun < 60


def test_a_server_that_never_answers_is_unreachable_after_the_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        storage = S3Storage(fake_settings(endpoint, tmp_path, read_timeout_seconds=0.5, connect_timeout_seconds=0.5))
        begun = time.monotonic()
        with pytest.raises(StorageUnreachable):
            storage.get("k")
        assert time.monotonic() - begun < 60


# ---- errors with names


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((503, "SlowDown"), StorageUnreachable),
        ((500, "InternalError"), StorageUnreachable),
        ((429, "TooManyRequests"), StorageUnreachable),
        ((400, "RequestTimeout"), StorageUnreachable),
        ((400, "BadDigest"), StorageUnreachable),
        ((409, "ConditionalRequestConflict"), StorageUnreachable),
        ((403, "AccessDenied"), StorageDenied),
        ((403, "RequestTimeTooSkewed"), StorageDenied),
        ((400, "ExpiredToken"), StorageDenied),
        ((403, "InvalidObjectState"), StorageError),
        ((403, "QuotaExceeded"), StorageFull),
        ((507, "XMinioStorageFull"), StorageFull),
        ((404, "NoSuchBucket"), StorageError),
        ((404, "NoSuchKey"), ObjectMissing),
        ((411, "MissingContentLength"), StorageError),
        ((501, "NotImplemented"), StorageError),
        ((400, "AuthorizationHeaderMalformed"), StorageError),
    ],
)
def test_each_answer_of_a_server_has_a_name_and_coordinates(tmp_path: Path, answer: tuple[int, str], error: type) -> None:
    for call in (lambda s: s.put("a/k", b"x"), lambda s: s.get("a/k")):
        with fake_s3(Behaviour(answers=[answer])) as endpoint:
            storage = S3Storage(fake_settings(endpoint, tmp_path, prefix="p"))
            with pytest.raises(error) as caught:
                call(storage)
        assert type(caught.value) is error
        assert caught.value.message.startswith(f"storage fake (bucket b at {endpoint}): object p/a/k: ")
        assert answer[1] in caught.value.message
        assert caught.value.hint or error is ObjectMissing


def test_wrong_credentials_are_denied(server: S3Server, tmp_path: Path) -> None:
    """ministack looks at the access key only; rclone checks the signature too."""
    path = tmp_path / "wrong"
    for access, secret in (("nobody", server.secret_key), (server.access_key, "wrong-secret")):
        if server.kind == "ministack" and access != "nobody":
            continue
        path.touch(0o600)
        path.write_text(f"[default]\naws_access_key_id={access}\naws_secret_access_key={secret}\n")
        storage = S3Storage(settings_for(server, tmp_path, credentials_file=path))
        for call in (
            lambda s: s.get("k"),
            lambda s: s.put("k", b"x"),
            lambda s: list(s.list()),
            lambda s: s.stat("k"),
            lambda s: s.capabilities(),
        ):
            with pytest.raises(StorageDenied) as caught:
                call(storage)
            assert caught.value.hint
            assert secret not in "".join(traceback.format_exception(caught.value))


def test_no_credentials_at_all_are_denied_with_a_remedy(
    ministack: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageDenied) as caught:
        S3Storage(S3Settings(bucket="b", endpoint=ministack.endpoint)).get("k")
    assert "credentials_file" in caught.value.hint


def test_credentials_may_come_from_the_default_chain(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    storage = S3Storage(settings_for(server, tmp_path, credentials_file=None))
    storage.put("k", b"x")
    assert storage.get("k") == b"x"


def test_a_missing_bucket_is_no_missing_object(server: S3Server, tmp_path: Path) -> None:
    storage = S3Storage(settings_for(server, tmp_path, bucket="no-such-bucket"))
    for call in (
        lambda: storage.get("k"),
        lambda: storage.put("k", b"x"),
        lambda: storage.put("k", b"x", only_new=True),
        lambda: list(storage.list()),
        lambda: storage.stat("k"),
        storage.capabilities,
    ):
        with pytest.raises(StorageError, match="no-such-bucket") as caught:
            call()
        assert type(caught.value) is StorageError
        assert "bucket" in caught.value.hint


def test_a_server_gone_meanwhile_is_unreachable(ministack: S3Server, tmp_path: Path) -> None:
    with proxy_to(ministack.endpoint) as proxy:
        storage = S3Storage(settings_for(ministack, tmp_path, endpoint=proxy.endpoint))
        storage.put("k", b"x")
    for _ in range(3):
        with pytest.raises(StorageUnreachable):
            storage.put("k", b"x")


# ---- secrets and settings


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_credentials_file_others_may_read_is_refused(ministack: S3Server, tmp_path: Path, mode: int) -> None:
    settings = settings_for(ministack, tmp_path)
    assert settings.credentials_file is not None
    settings.credentials_file.chmod(mode)
    with pytest.raises(ConfigError, match="others may read it") as caught:
        S3Storage(settings).get("k")
    assert caught.value.hint == f"chmod 600 {settings.credentials_file}"


@pytest.mark.parametrize(
    "text",
    [
        "aws_secret_access_key = hunter2secret\n",
        "[default]\naws_secret_access_key hunter2secret\n",
        "[default]\naws_secret_access_key = hunter2secret\n",
        "[other]\naws_access_key_id = a\naws_secret_access_key = hunter2secret\n",
    ],
)
def test_a_broken_credentials_file_is_named_and_never_quoted(tmp_path: Path, text: str) -> None:
    settings = fake_settings("http://127.0.0.1:1", tmp_path)
    assert settings.credentials_file is not None
    settings.credentials_file.write_text(text)
    with pytest.raises(ConfigError, match="credentials_file") as caught:
        S3Storage(settings).get("k")
    assert "hunter2secret" not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


def test_a_missing_credentials_file_and_an_unknown_profile_are_config_errors(tmp_path: Path) -> None:
    for changes in ({"credentials_file": tmp_path / "none"}, {"credentials_file": None, "profile": "nobody"}):
        with pytest.raises(ConfigError):
            S3Storage(fake_settings("http://127.0.0.1:1", tmp_path, **changes)).get("k")


def test_a_profile_names_the_section_of_the_credentials_file(ministack: S3Server, tmp_path: Path) -> None:
    path = tmp_path / "sections"
    path.touch(0o600)
    path.write_text(
        "[default]\naws_access_key_id = nobody\naws_secret_access_key = x%y\n"
        f"[backup]\naws_access_key_id = {ministack.access_key}\naws_secret_access_key = {ministack.secret_key}\n"
    )
    S3Storage(settings_for(ministack, tmp_path, credentials_file=path, profile="backup")).put("k", b"x")


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket": ""},
        {"prefix": "a/../b"},
        {"endpoint": "ftp://host"},
        {"endpoint": "host:9000"},
        {"endpoint": "http://user:verysecretvalue@host"},
        {"checksum_mode": "always"},
        {"max_concurrent_uploads": 0},
        {"multipart_bytes": 1000},
    ],
)
def test_settings_no_client_could_use_are_refused_before_any_call(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="storage fake: ") as caught:
        S3Storage(fake_settings("http://127.0.0.1:1", tmp_path, **changes))
    assert "verysecretvalue" not in caught.value.message


def test_no_representation_shows_a_secret(tmp_path: Path) -> None:
    settings = fake_settings("http://127.0.0.1:1", tmp_path)
    storage = Retrying(S3Storage(settings), RetryPolicy(attempts=1))
    with pytest.raises(StorageUnreachable) as caught:
        storage.get("k")
    shown = repr(storage) + repr(settings) + repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert "verysecretvalue" not in shown
    assert "AKIDEXAMPLE" not in shown


def test_one_prefix_never_sees_another(server: S3Server, tmp_path: Path) -> None:
    one = S3Storage(settings_for(server, tmp_path, prefix="iso/a"))
    other = S3Storage(settings_for(server, tmp_path, prefix="/iso/ab/"))
    one.put("k", b"one")
    other.put("k", b"other")
    other.put("only", b"x")
    assert [info.key for info in one.list()] == ["k"]
    assert [info.key for info in other.list()] == ["k", "only"]
    one.delete("k")
    assert other.get("k") == b"other"
    with pytest.raises(ObjectMissing):
        one.get("only")


# ---- threads, processes, memory


def test_no_more_puts_run_at_once_than_allowed(tmp_path: Path) -> None:
    behaviour = Behaviour(put_seconds=0.05)
    with fake_s3(behaviour) as endpoint:
        storage = S3Storage(fake_settings(endpoint, tmp_path))
        threads = [threading.Thread(target=storage.put, args=(f"k{n}", b"x")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert behaviour.most_at_once == 2
    assert len(behaviour.objects) == 8


def test_a_forked_child_uses_a_client_of_its_own(settings: S3Settings) -> None:
    storage = S3Storage(settings)
    storage.put("parent", b"parent")
    parent_client = storage._client
    pid = os.fork()
    if pid == 0:
        storage.put("child", b"child")
        same = storage._client is parent_client
        os._exit(3 if same or storage.get("parent") != b"parent" else 0)
    assert storage.get("parent") == b"parent"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert storage.get("child") == b"child"
    assert storage._client is parent_client


def test_threads_share_one_client(settings: S3Settings) -> None:
    storage = S3Storage(settings)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(storage._client)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == 1


def _race(settings: S3Settings, start: float, number: int) -> None:
    storage = S3Storage(settings)
    storage.capabilities()
    time.sleep(max(0.0, start - time.time()))
    won = []
    for turn in range(40):
        try:
            storage.put(f"leases/{turn}", str(number).encode(), only_new=True)
        except ObjectExists:
            continue
        won.append(turn)
    storage.put(f"won/{number}", ",".join(map(str, won)).encode())


def test_of_two_processes_racing_for_a_key_exactly_one_wins(ministack: S3Server, tmp_path: Path) -> None:
    settings = settings_for(ministack, tmp_path)
    context = multiprocessing.get_context("spawn")
    racers = [context.Process(target=_race, args=(settings, time.time() + 2.0, number)) for number in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    storage = S3Storage(settings)
    claims = [int(t) for n in range(2) for t in storage.get(f"won/{n}").decode().split(",") if t]
    assert sorted(claims) == list(range(40))


def test_a_put_copies_nothing_and_a_get_holds_the_object_once(ministack: S3Server, tmp_path: Path) -> None:
    storage = S3Storage(settings_for(ministack, tmp_path))
    data = bytearray(random_bytes(20 * MIB))
    storage.put("warm", b"x")
    gc.collect()
    tracemalloc.start()
    storage.put("parts", data)
    storage.put("whole", memoryview(data), only_new=True)
    put_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    found = storage.get("whole")
    get_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == data
    assert put_peak < 2 * MIB
    assert get_peak < 23 * MIB


def test_a_range_fetches_only_those_bytes(ministack: S3Server, tmp_path: Path) -> None:
    storage = S3Storage(settings_for(ministack, tmp_path))
    data = random_bytes(10 * MIB)
    storage.put("k", data)
    with proxy_to(ministack.endpoint) as proxy:
        storage = S3Storage(dataclasses.replace(storage._settings, endpoint=proxy.endpoint))
        assert storage.get("k", offset=5 * MIB, length=4096) == data[5 * MIB : 5 * MIB + 4096]
        assert proxy.n_bytes_down < 8192
