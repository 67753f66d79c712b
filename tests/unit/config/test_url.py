from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.config import ChecksumMode, StorageConfig, StorageType, is_s3, parse_storage_url
from continuum_tasks.errors import ConfigError


def test_a_directory_is_a_local_storage() -> None:
    expected = StorageConfig(name="local", type=StorageType.LOCAL, path=Path("/srv/my backups"))

    assert parse_storage_url("/srv/my backups", "local") == expected
    assert parse_storage_url("backups", "local").path == Path.cwd() / "backups"
    assert parse_storage_url("~/b", "local").path == Path.home() / "b"


def test_an_s3_url_gives_bucket_prefix_and_options() -> None:
    text = (
        "s3://bucket/a/b/?endpoint=http://127.0.0.1:9000&region=us-west-2&profile=dr&credentials_file=/c&checksum_mode=required"
    )

    assert parse_storage_url(text, "s3") == StorageConfig(
        name="s3",
        type=StorageType.S3,
        bucket="bucket",
        prefix="a/b",
        endpoint="http://127.0.0.1:9000",
        region="us-west-2",
        profile="dr",
        credentials_file=Path("/c"),
        checksum_mode=ChecksumMode.REQUIRED,
    )
    assert parse_storage_url("S3://bucket", "s3").prefix == ""
    assert parse_storage_url("s3://bucket/?endpoint=http%3A%2F%2Fh%3A1", "s3").endpoint == "http://h:1"
    assert is_s3("S3://x") and not is_s3("/s3://x")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a\nb", "gs://bucket", "file:///x", "s3://", "s3://b", "s3:///prefix", "s3://bucket/../x", "s3://bucket/a//b",
        "s3://bucket?regoin=x", "s3://bucket?region=a&region=b", "s3://bucket?region", "s3://bucket?endpoint=h:9000",
        "s3://bucket#x", "s3://[bucket", "~no-such-user-here/x", "s3://bucket?credentials_file=rel",
    ],
)  # fmt: skip
def test_other_texts_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_storage_url(text, "s3")

    assert caught.value.hint


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_storage_url("s3://AKIA:hunter2@bucket/x", "s3")

    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="storage name 'S 3'"):
        parse_storage_url("/x", "S 3")


@given(
    text=st.one_of(
        st.text(max_size=40), st.text(max_size=40).map("s3://bucket/".__add__), st.text(max_size=40).map("s3://".__add__)
    )
)
def test_any_text_gives_a_storage_or_a_config_error(text: str) -> None:
    try:
        storage = parse_storage_url(text, "any")
    except ConfigError:
        return
    assert storage.path is not None or storage.bucket
