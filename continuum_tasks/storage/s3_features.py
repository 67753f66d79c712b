"""storage/s3_features.py: find out by trying what an S3 server and a bucket can do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from continuum_tasks.storage.s3_errors import S3_FAILURES, code_of, is_transient
from continuum_tasks.storage.s3_upload import Upload, put_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_REFUSED = 412
_UNKNOWN_HEADER = (400, 405, 411, 501)


def honours_conditions(upload: Upload) -> bool:
    """Tell whether `If-None-Match: *` keeps the first of two writes to `upload`'s name, which is read back and removed."""
    try:
        put_whole(upload, only_new=True)
        return _refuses(replace(upload, body=memoryview(b"second"))) and _stored(upload) == upload.body
    except ClientError as err:
        if code_of(err)[1] in _UNKNOWN_HEADER:
            return False
        raise
    finally:
        # Who may write but not delete leaves a few bytes behind: no reason to refuse a backup.
        with contextlib.suppress(*S3_FAILURES):
            upload.client.delete_object(**upload.place)


def has_versioning(client: S3Client, bucket: str) -> bool:
    """Tell whether the bucket keeps what is overwritten or deleted."""
    return _ask(client.get_bucket_versioning, bucket).get("Status") == "Enabled"


def has_object_lock(client: S3Client, bucket: str) -> bool:
    """Tell whether objects of the bucket may be locked against deletion."""
    answer = _ask(client.get_object_lock_configuration, bucket)
    return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")


def _refuses(upload: Upload) -> bool:
    try:
        put_whole(upload, only_new=True)
    except ClientError as err:
        if code_of(err)[1] == _REFUSED:
            return True
        raise
    return False


def _stored(upload: Upload) -> bytes:
    with contextlib.closing(upload.client.get_object(**upload.place)["Body"]) as stream:
        return stream.read()


def _ask(question: Callable[..., Any], bucket: str) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = question(Bucket=bucket)
    except ClientError as err:
        if is_transient(err):
            raise
        return {}  # the server knows no such thing, or this user may not ask
    return answer
