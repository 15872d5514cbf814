"""The benchmarks' modules, which belong to no package.

They run as programs from their own folder, and import each other from there.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "load"]

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> Any:
    """The module NAME, as the programs import it: "scale", "figures.rows"."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)
