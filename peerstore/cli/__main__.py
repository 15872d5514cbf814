"""``python -m peerstore.cli``: the same as ``peerstore``."""

from __future__ import annotations

from peerstore.cli.main import main

if __name__ == "__main__":
    main()
