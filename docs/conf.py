"""Sphinx configuration; ``tox -e docs`` builds with warnings as errors."""

project = "PeerStore"
author = "The PeerStore authors"
copyright = "2026, The PeerStore authors"  # noqa: A001
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
exclude_patterns = ["_build"]
nitpicky = True
