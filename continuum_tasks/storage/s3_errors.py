"""Which error of ours an answer of an S3 server, or the lack of one, is.

Messages carry the server's error code and status, never its text: that may echo what was sent.
"""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

from continuum_tasks.errors import (
    ContinuumError,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnreachable,
)

# What a call to the client or a read from its body may raise.
S3_FAILURES = (BotoCoreError, ClientError, HTTPError)

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
_CLOCK = ("RequestTimeTooSkewed", "RequestExpired")
_DENIED = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationQueryParametersError")
_FULL = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge", "ServiceQuotaExceededException")
# Bytes mangled on the way (the server said so), or a race the server wants tried again.
_AGAIN = (
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
)
_REGION = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "TemporaryRedirect")


def code_of(err: ClientError) -> tuple[str, int]:
    """Return the server's error code and HTTP status."""
    status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(err.response.get("Error", {}).get("Code", "")), int(status)


def is_transient(err: ClientError) -> bool:
    """Tell whether trying again may help."""
    return s3_error(err, "").transient


def s3_error(err: Exception, where: str) -> ContinuumError:
    """Build our error for `err`, with the coordinates `where` in front and a remedy."""
    if isinstance(err, ClientError):
        return _answered(*code_of(err), where)
    return _unanswered(err, f"{where}: {type(err).__name__}")


def _unanswered(err: Exception, message: str) -> ContinuumError:
    if isinstance(err, _NO_CREDENTIALS):
        hint = "set credentials_file or profile in storage.conf, or give boto3's usual variables or role"
        return StorageDenied(f"{message}: no usable credentials", hint=hint)
    if isinstance(err, FlexibleChecksumError):
        return ObjectDamaged(f"{message}: bytes differ from the stored checksum", hint="restore from another backup")
    if isinstance(err, SSLError):
        return StorageError(f"{message}: the server's certificate is not trusted", hint="install its CA, or set AWS_CA_BUNDLE")
    if isinstance(err, BotoConnectionError | HTTPClientError | HTTPError | IncompleteReadError):
        return StorageUnreachable(f"{message}: no complete answer", hint="check the network, the endpoint and the server")
    return StorageError(message, hint="check endpoint, region and profile in storage.conf")


def _answered(code: str, status: int, where: str) -> ContinuumError:
    message = f"{where}: the server says {code or 'nothing'} ({status})"
    return _known(code, message) or _by_status(code, status, message)


def _known(code: str, message: str) -> ContinuumError | None:
    if code == "NoSuchBucket":
        return StorageError(message, hint="make the bucket, or correct bucket and region in storage.conf")
    if code in _CLOCK:
        return StorageDenied(message, hint="set this host's clock: it is too far from the server's")
    if code in _DENIED:
        return StorageDenied(message, hint="check the access key, the secret and their expiry")
    if code in _FULL:
        return StorageFull(message, hint="free space or raise the quota at the server")
    if code == "InvalidObjectState":
        return StorageError(message, hint="the object is in an archive tier: bring it back there first")
    if code in _REGION:
        return StorageError(message, hint="set the region of the bucket in storage.conf")
    if code in _AGAIN or "Throttl" in code or code in ("SlowDown", "TooManyRequests"):
        return StorageUnreachable(message, hint="the server asks to try again; lower max_concurrent_uploads if it persists")
    return None


def _by_status(code: str, status: int, message: str) -> ContinuumError:
    if status == 404:
        return ObjectMissing(message, hint="it was deleted or never written; `continuum backup verify` says what else is gone")
    if status == 412:
        return ObjectExists(message)
    if status in (401, 403):
        return StorageDenied(message, hint="check credentials and policy of the bucket; a locked object cannot be deleted yet")
    if status in (411, 501):
        return StorageError(message, hint="set checksum_mode = required in storage.conf: this server lacks newer features")
    if status == 507:
        return StorageFull(message, hint="free space or raise the quota at the server")
    if status in (408, 429) or status >= 500:
        return StorageUnreachable(message, hint="the server is overloaded or failing: try again")
    return StorageError(message, hint="check bucket, endpoint and region in storage.conf")
