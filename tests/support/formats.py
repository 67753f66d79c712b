"""Documents of a storage as other format versions would write them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from continuum_tasks.repository.documents import Signature, to_json

AT = datetime(2026, 3, 4, tzinfo=UTC)


def sign(data: bytes) -> Signature:
    return Signature(key_id="k", value=hashlib.sha256(data).hexdigest())


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sealed(envelope: dict[str, Any]) -> bytes:
    """Return a document of these parts, with the SHA-256 that it must have."""
    rest = {key: value for key, value in envelope.items() if key != "sha256"}
    return canonical({**rest, "sha256": hashlib.sha256(canonical(rest)).hexdigest()})


def as_format(data: bytes, number: object, *, signed: bool = False) -> bytes:
    """Return the document as if it were of that format."""
    envelope = json.loads(data)
    envelope["body"]["format"] = number
    if signed:
        envelope["signature"] = to_json(sign(canonical(envelope["body"])))
    return sealed(envelope)
