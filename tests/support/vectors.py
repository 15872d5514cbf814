"""Frozen bytes: ``tests/vectors`` and how the tests read it.

Everything there was written once and is never made anew by a test.  A test
that fails on it says that a format has changed: data on disks, ids of folders
or names of keys would not be what they were.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["VECTORS", "frozen", "plain", "test_key"]

VECTORS = Path(__file__).parent.parent / "vectors"


def frozen(name: str) -> Any:
    """What ``tests/vectors/NAME.json`` says."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def test_key(bits: int = 2048) -> bytes:
    """The PEM of a key that is public, and good for nothing but tests."""
    return (VECTORS / f"key-{bits}.pem").read_bytes()


# Trial and others take whatever begins with "test" for a test.
test_key.__test__ = False  # type: ignore[attr-defined]


def plain(value: Any) -> Any:
    """JSON's lists and texts as what is packed: texts that begin with "0x"
    are bytes."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return bytes.fromhex(value[2:]) if isinstance(value, str) and value.startswith("0x") else value
