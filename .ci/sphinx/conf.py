"""How Sphinx builds the pages of circuitsketch/docs and the reference from docstrings."""

import re
import sys

from sphinx.domains.python import PyObject

import circuitsketch

project = "circuitsketch"
release = version = circuitsketch.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_heading_anchors = 3
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False
napoleon_use_rtype = False
html_theme = "furo"
html_title = "circuitsketch"

CODE = re.compile(r"(`[^`]*`)")
MARKUP = re.compile(r"[*|]|_(?!\w)")


def escape_mathematics(app, what, name, obj, options, lines):
    """Escape characters of formulas that reStructuredText takes for markup, such as |h| and u_{k-j}.

    The overview of the package is laid out by hand, as `help` shows it.
    """
    if what == "module" and name == "circuitsketch":
        lines[:] = ["::", "", *("    " + line for line in lines), ""]
        return
    in_example = False
    for i, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        if not in_example:
            parts = CODE.split(line)  # every second part is between backticks
            parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def skip_internal(app, what, name, obj, skip, options):
    """Skip what tab completion does not offer of a class either, if its module, or a base's, lists what is `PUBLIC`."""
    kind = getattr(circuitsketch, app.env.temp_data.get("autodoc:class") or "", None)
    modules = [sys.modules[base.__module__] for base in getattr(kind, "__mro__", ())]
    public = next((module.PUBLIC for module in modules if hasattr(module, "PUBLIC")), (name,))
    return True if what == "class" and name not in public else None


def setup(app):
    """Register the hooks, the first before that of napoleon, and name attributes as numpydoc does."""
    app.connect("autodoc-process-docstring", escape_mathematics, priority=400)
    app.connect("autodoc-skip-member", skip_internal)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
