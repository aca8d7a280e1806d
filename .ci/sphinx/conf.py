"""How Sphinx builds the pages of circuitsketch/docs and the reference from docstrings."""

import circuitsketch

project = "circuitsketch"
release = version = circuitsketch.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
napoleon_google_docstring = False
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
html_theme = "furo"
html_title = "circuitsketch"
