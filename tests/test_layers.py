"""The house plan's arrows: who may import whom, read off the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

import peerstore

ROOT = Path(peerstore.__file__).parent

#: From the ground up; packages on one line never import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("ids", "vectors", "errors", "items", "interfaces"),
    ("util", "crypto"),
    ("wire", "transactions", "files"),
    ("ring", "trust", "storage", "net"),
    ("gateway",),
    ("node", "client"),
    ("sync", "web"),
    ("cli", "sim", "sftp"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
#: The ground is one layer of single modules, which may build on each other.
GROUND = set(LAYERS[0])

PURE = ("ids", "vectors", "errors", "items", "wire", "transactions", "files", "crypto")
ONLY_IN = {
    "Crypto": ("crypto/",),
    "pyinotify": ("sync/watcher.py",),
    "sqlite3": ("storage/", "client/state.py"),
}
REACTOR_IN = ("node/tap.py", "sync/tap.py", "cli/main.py", "sim/main.py")


class Import(NamedTuple):
    """One import statement: the file, its line, the module and name."""

    path: str
    line: int
    module: str
    name: str | None


def imports_in(path: str, source: str) -> Iterator[Import]:
    """Every absolute import of a source text, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(path, node.lineno, module, alias.name)


def package_of(path: str) -> str:
    """The layer's name for a file of ours, relative to the package."""
    return path.split("/")[0].removesuffix(".py")


def targets(item: Import) -> Iterator[str]:
    """The names of our packages that an import reaches."""
    if item.module == "peerstore" and item.name is not None:
        yield item.name
    elif item.module.startswith("peerstore."):
        yield item.module.split(".")[1]


def broken_arrows(item: Import) -> Iterator[str]:
    """What is wrong with one import, in words."""
    where = f"{item.path}:{item.line}"
    mine = package_of(item.path)
    if item.module.startswith("."):
        yield f"{where} imports relatively"
    for target in targets(item):
        if target == "__version__" or mine in ("__init__", "__main__") or target == mine:
            continue
        if target not in LEVEL:
            yield f"{where} imports {target}, which has no place in the plan"
        elif mine not in LEVEL:
            yield f"{where} is in {mine}, which has no place in the plan"
        elif mine in GROUND and target in GROUND:
            continue
        elif LEVEL[target] >= LEVEL[mine]:
            yield f"{where}: {mine} imports {target}, and arrows point down only"
    top = item.module.split(".")[0]
    if top in ONLY_IN and not item.path.startswith(ONLY_IN[top]):
        yield f"{where} imports {top}, which belongs to {' and '.join(ONLY_IN[top])}"
    if top == "twisted" and mine in PURE:
        yield f"{where}: {mine} is pure and imports Twisted"
    reactor = item.module == "twisted.internet" and item.name == "reactor"
    if (reactor or item.module == "twisted.internet.reactor") and item.path not in REACTOR_IN:
        yield f"{where} imports the global reactor"


class LayerTests(SynchronousTestCase):
    """Arrows point down only."""

    def test_every_module_keeps_to_the_plan(self) -> None:
        """No module of the package breaks an arrow, and there are modules."""
        found: list[str] = []
        count = 0
        for path in sorted(ROOT.rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for item in imports_in(name, path.read_text(encoding="utf-8")):
                count += 1
                found.extend(broken_arrows(item))
        self.assertGreater(count, 50)
        self.assertEqual(found, [])

    def test_each_rule_catches_its_breach(self) -> None:
        """A source that breaks a rule is reported, rule by rule."""
        breaches = {
            ("wire/framing.py", "import twisted.internet"): "pure",
            ("ring/member.py", "from peerstore.storage import schema"): "down only",
            ("ids.py", "from peerstore.wire import framing"): "down only",
            ("net/pool.py", "from twisted.internet import reactor"): "global reactor",
            ("node/service.py", "def f():\n    import sqlite3"): "belongs to",
            ("client/client.py", "from peerstore import crypto\nimport Crypto.Hash"): "belongs to",
            ("sync/plan.py", "import pyinotify"): "belongs to",
            ("node/service.py", "from . import config"): "relatively",
            ("node/service.py", "from peerstore.attic import old"): "no place",
        }
        for (path, source), word in breaches.items():
            reports = [r for item in imports_in(path, source) for r in broken_arrows(item)]
            self.assertTrue(any(word in report for report in reports), (path, source, reports))

    def test_arrows_that_point_down_are_fine(self) -> None:
        """What the plan allows is not reported."""
        for path, source in (
            ("node/service.py", "from peerstore.gateway import locate\nfrom twisted.internet import defer"),
            ("wire/messages.py", "from peerstore import errors\nfrom peerstore.wire import bodies"),
            ("errors.py", "from peerstore.ids import short"),
            ("node/tap.py", "from twisted.internet import reactor"),
        ):
            reports = [r for item in imports_in(path, source) for r in broken_arrows(item)]
            self.assertEqual(reports, [])
