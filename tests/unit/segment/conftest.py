from __future__ import annotations

from tests.unit.layer.conftest import peak_bytes

__all__ = ["peak_bytes"]
