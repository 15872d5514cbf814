"""Whether the installed package stands without its source tree.

Run with ``python -I`` in an environment that holds the built wheel; the one
argument is the tree that must *not* be where the package comes from.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SCRIPTS = Path(sysconfig.get_path("scripts"))


def run(*arguments: str) -> str:
    """The output of a command that must end well, run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=300, cwd=folder, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(arguments)} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result.stdout


def main() -> None:
    """Check the import, the entry points and the twistd plugins."""
    import peerstore

    tree = Path(sys.argv[1]).resolve()
    place = Path(peerstore.__file__).resolve()
    if tree in place.parents and ".tox" not in place.parts:
        sys.exit(f"peerstore came from the source tree: {place}")
    version = importlib.metadata.version("peerstore")
    told = run(str(SCRIPTS / "peerstore"), "--version")
    if version not in told:
        sys.exit(f"peerstore --version says {told!r}, the package says {version}")
    plugins = run(str(SCRIPTS / "twistd"), "--help")
    for name in ("peerstore-node", "peerstore-sync"):
        if name not in plugins:
            sys.exit(f"twistd does not list {name}")
        if "--" not in run(str(SCRIPTS / "twistd"), name, "--help"):
            sys.exit(f"twistd {name} --help explains nothing")
    simulated = run(str(SCRIPTS / "peerstore-sim"), "ring", "--seed", "1", "--hosts", "4", "--virtual-nodes", "1")
    if "trace" not in simulated:
        sys.exit("peerstore-sim ring printed no trace hash")
    print(f"wheel {version}: import, entry points, both plugins and one simulated ring stand by themselves")


if __name__ == "__main__":
    main()
