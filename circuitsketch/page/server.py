"""Serve a view to browsers on this machine.

In: a view. Out: a server, which answers whoever knows the token in its address. Paths: `/` the page, `data`, `ask`,
`calibration`, and `check`, which retrains in the background. Nothing is written, and no other host is talked to.
"""

from __future__ import annotations

import gzip
import hmac
import ipaddress
import itertools
import json
import secrets
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from circuitsketch.errors import CircuitSketchError, InputError, printable
from circuitsketch.page.document import build_document
from circuitsketch.page.view import View

LONGEST = 4 << 20  # bytes of a question
KEPT = 64  # retrainings whose results can still be asked for
SHORT = 1 << 10  # bytes, up to which compression is not worth it
WRONG_TOKEN = "this address lacks the right token; use the one that circuitsketch page has printed"
DISAPPEARED = "the folder of the sketch has disappeared: answers come from what was read before"


class Refused(Exception):
    """A request that is not answered: its status and its reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Job:
    """A retraining in the background, and what came of it."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.started: float | None = None
        self.answer: dict[str, Any] | None = None
        self.error: str | None = None

    def describe(self, expected: float | None) -> dict[str, Any]:
        """Return how far it is. expected: how many seconds it may take, if that is known."""
        if self.error is not None:
            return {"error": self.error}
        if self.answer is not None:
            return {"answer": self.answer}
        if self.started is None:
            return {"share": 0.0, "text": "waiting for another training"}
        seconds = time.monotonic() - self.started
        about = "" if expected is None else f" of about {expected:.0f} s"
        share = 0.5 if expected is None else min(0.95, seconds / max(expected, 1e-3))
        return {"share": share, "text": f"training again: {seconds:.0f} s{about}"}


class PageServer(ThreadingHTTPServer):
    """A server of one view.

    Parameters
    ----------
    view : View
    host, port : str, int
        Where to listen; port 0 is any that is free.
    allow_remote : bool
        Whether other machines may ask.
    store : str or Path, optional
        The folder of the sketch, whose disappearance is told.

    Raises
    ------
    InputError
        For a host that is not this machine, unless that is allowed; if the address is in use or does not exist.
    """

    daemon_threads = True

    def __init__(
        self,
        view: View,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        allow_remote: bool = False,
        store: str | Path | None = None,
    ) -> None:
        if not allow_remote and not is_this_machine(host):
            raise InputError(
                f"{host} is reached by other machines, which could ask about the data; leave out --host, or add "
                "--allow-remote"
            )
        self.view, self.allow_remote = view, allow_remote
        self.store = None if store is None else Path(store)
        self.token = secrets.token_urlsafe(24)
        self.document = build_document(None, f"{view.title}: without them" if view.title else "Without them")
        self.jobs: dict[int, Job] = {}
        self.numbers = itertools.count(1)
        self.training = threading.Lock()
        self.expected: float | None = None
        try:
            super().__init__((host, port), Handler)
        except OSError as reason:
            raise InputError(f"cannot listen on {host}:{port}: {reason.strerror}; give another --port") from None

    @property
    def address(self) -> str:
        """The address of the page, with its token."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about a browser that has left before its answer was sent."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def ask(self, ids: Any) -> dict[str, Any]:
        """Answer a question; a sketch that has disappeared is told."""
        answer = self.view.ask(ids)
        if self.store is not None and not self.store.exists():
            answer["warnings"] = [*answer["warnings"], DISAPPEARED]
        return answer

    def start_check(self, ids: Any) -> int:
        """Start retraining without a subset in the background; return the number of the job."""
        chosen = self.view.parse_ids(ids)
        number, job = next(self.numbers), Job()
        self.jobs[number] = job
        for old in list(self.jobs)[:-KEPT]:
            del self.jobs[old]
        threading.Thread(target=self._check, args=(job, chosen), daemon=True).start()
        return number

    def _check(self, job: Job, ids: list[int]) -> None:
        with self.training:
            job.started = time.monotonic()
            try:
                job.answer = self.view.check(ids)
                self.expected = time.monotonic() - job.started
            except CircuitSketchError as reason:
                job.error = str(reason)
            except Exception as reason:  # of the user's own code, which must not end the server
                job.error = f"{type(reason).__name__}: {reason}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: PageServer
    server_version = "circuitsketch"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        """Send the page, its data, or how far a retraining is."""
        self.respond(self.get)

    def do_POST(self) -> None:
        """Answer a question."""
        self.respond(self.post)

    def get(self, path: str, options: dict[str, list[str]]) -> Any:
        """Return the page as text, or JSON values."""
        view = self.server.view
        if path == "/":
            return self.server.document
        if path == "/data":
            return view.describe()
        if path == "/calibration":
            return view.calibration()
        if path == "/check":
            job = self.server.jobs.get(int("".join(options.get("job", [])) or 0))
            if job is None:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such training")
            return job.describe(self.server.expected)
        raise Refused(HTTPStatus.NOT_FOUND, f"there is nothing at {path}")

    def post(self, path: str, options: dict[str, list[str]]) -> Any:
        """Return the answer to a question."""
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= LONGEST:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a question is a JSON object of at most 4 MiB")
        question = json.loads(self.rfile.read(length))
        if not isinstance(question, dict) or "ids" not in question:
            raise InputError('a question is a JSON object such as {"ids": [1, 5]}')
        if path == "/ask":
            return self.server.ask(question["ids"])
        if path == "/check":
            return {"job": self.server.start_check(question["ids"])}
        raise Refused(HTTPStatus.NOT_FOUND, f"there is nothing at {path}")

    def respond(self, answer: Any) -> None:
        """Check who asks, and send what a function of the path and its options returns."""
        parts = urlsplit(self.path)
        options = parse_qs(parts.query)
        is_page = parts.path == "/"
        try:
            self.check_sender("".join(options.get("token", [])) if is_page else self.headers.get("X-Token", ""))
            content, status = answer(parts.path, options), HTTPStatus.OK
        except Refused as reason:
            content, status = {"error": str(reason)}, reason.status
        except (CircuitSketchError, ValueError) as reason:
            content, status = {"error": printable(str(reason))}, HTTPStatus.BAD_REQUEST
        except OSError as reason:  # of a sketch that is read late
            content, status = {"error": f"the sketch cannot be read: {reason.strerror}"}, HTTPStatus.BAD_REQUEST
        if status is not HTTPStatus.OK and is_page:
            content = f"<!doctype html><title>circuitsketch</title><p>{content['error']}"
        self.send(content, status)

    def check_sender(self, token: str) -> None:
        """Refuse requests without the token, and those that reach this machine by a name of somebody else's."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if not self.server.allow_remote and not is_this_machine(host):
            raise Refused(HTTPStatus.FORBIDDEN, "this page is for this machine; use the address that was printed")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, WRONG_TOKEN)

    def send(self, content: Any, status: HTTPStatus) -> None:
        """Send a text as HTML, anything else as JSON."""
        is_text = isinstance(content, str)
        body = (content if is_text else json.dumps(content, allow_nan=False, separators=(",", ":"))).encode()
        compressed = len(body) > SHORT and "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(body, 1) if compressed else body
        self.send_response(status)
        self.send_header("Content-Type", f"{'text/html' if is_text else 'application/json'}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests, whose addresses hold the token, out of the terminal."""


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine alone.

    >>> is_this_machine("127.0.0.1"), is_this_machine("localhost"), is_this_machine("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
