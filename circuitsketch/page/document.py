"""One HTML document with all that it needs: markup, style, scripts, and perhaps its data. It loads nothing else.

In: data that JSON can hold, or None for a page that asks the server that sent it. Out: a text. A browser runs no script
but these, by their digests, whatever labels and items say.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("charts.js", "sums.js", "answers.js", "subsets.js", "log.js", "page.js")
STRICT = re.compile(r'^"use strict";\n', re.MULTILINE)  # once is enough


@cache
def read_asset(name: str) -> str:
    """Return the text of a file of the page."""
    return (ASSETS / name).read_text(encoding="utf-8")


def build_document(data: dict[str, Any] | None, title: str) -> str:
    """Return the page, with its data, or with none: then it asks its server.

    >>> "<b>" in build_document({"labels": ["<b>"]}, "a < b"), "a &lt; b" in build_document(None, "a < b")
    (False, True)
    """
    script = '"use strict";\n' + STRICT.sub("", "\n".join(read_asset(name) for name in SCRIPTS))
    style = read_asset("page.css")
    parts = {
        "POLICY": policy_of(script, style, "'self'" if data is None else "'none'"),
        "TITLE": html.escape(title),
        "STYLE": style,
        "DATA": embed_json(data),
        "SCRIPT": script,
    }
    return re.sub("@([A-Z]+)@", lambda match: parts[match[1]], read_asset("page.html"))


def policy_of(script: str, style: str, connect: str) -> str:
    """Return the content security policy: these scripts and this style, pictures that are in the page, no other host.

    connect : 'self' for a page that asks its server, else 'none'.
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def embed_json(data: Any) -> str:
    """Return data as JSON for a script element, which no text in it can end.

    >>> embed_json({"label": "</script>"})
    '{"label":"\\\\u003c/script>"}'
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
