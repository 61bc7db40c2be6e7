"""Sphinx configuration: Markdown by MyST, checked links, no network at build time."""

from __future__ import annotations

from labd import __version__

project = "labd"
author = "The labd authors"
copyright = "the labd authors, MIT licence"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "labd"
