"""How Sphinx builds the pages of circuitsketch/docs and the reference from docstrings."""

import circuitsketch

project = "circuitsketch"
release = version = circuitsketch.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
html_theme = "furo"
html_title = "circuitsketch"


def keep_as_written(app, what, name, obj, options, lines):
    """Show a docstring as it is laid out in the source, where `help` shows it: as preformatted text."""
    if lines:
        lines[:] = ["::", "", *("    " + line for line in lines), ""]


def setup(app):
    """Register the hook."""
    app.connect("autodoc-process-docstring", keep_as_written)
