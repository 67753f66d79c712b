"""The keys that wrap data keys and sign manifests: one printable file per key in a private directory."""

from continuum_tasks.keyring.ring import Keyring, open_keyring
from continuum_tasks.keyring.store import adopt_key, generate_key, import_key, read_key_copy

__all__ = ["Keyring", "adopt_key", "generate_key", "import_key", "open_keyring", "read_key_copy"]
