"""An S3 server on this machine, in a process of its own, and a proxy before it that misbehaves when it is told to."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOST = "127.0.0.1"
BUCKET = "bucket"
SECRET = "hidden-secret"  # no message may repeat it
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><AWSAccessKeyId>" + SECRET + "</AWSAccessKeyId></Error>"


@contextlib.contextmanager
def moto() -> Iterator[int]:
    """A server with one bucket; its port."""
    with socket.socket() as chosen:
        chosen.bind((HOST, 0))
        port = chosen.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            limit = time.monotonic() + 60
            while True:
                try:
                    assert ask(port, "PUT", f"/{BUCKET}")[0] == 200
                    break
                except OSError:
                    assert time.monotonic() < limit and process.poll() is None
                    time.sleep(0.1)
            yield port
        finally:
            process.kill()


def ask(port: int, method: str, path: str, body: bytes = b"", headers: dict | None = None) -> tuple[int, dict, bytes]:
    """One request; the status, the headers and the body of the answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


class Proxy(ThreadingHTTPServer):
    """Passes requests on; `rule(method, name)` returns what goes wrong with one, or None.

    "stall": half of the body is read, and then nothing happens until `resume` is set.
    "drop": the connection is closed before anything reaches the server; "lose": after the server has done it.
    "flip", "cut": one bit of the answer's body is another, or its second half is missing.
    A number: that status, with a code of S3 and a body that quotes credentials.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__((HOST, 0), Handler)
        self.upstream = port
        self.rule: Callable[[str, str], str | int | None] = lambda method, name: None
        self.done: list[tuple[str, str]] = []  # by the server
        self.stalled, self.resume = threading.Event(), threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"

    def names(self, prefix: str) -> list[str]:
        """What is in the bucket below a prefix, without it; at most a page."""
        text = ask(self.upstream, "GET", f"/{BUCKET}?list-type=2&prefix={prefix}")[2].decode()
        return [part.partition("</Key>")[0].removeprefix(prefix) for part in text.split("<Key>")[1:]]

    def handle_error(self, request, address) -> None:
        """Say nothing: clients that are killed are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer in two parts would wait for 40 ms

    def pass_on(self) -> None:
        method, name, proxy = self.command, urlsplit(self.path).path.rpartition("/")[2], self.server
        fault = proxy.rule(method, name)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "stall":
            self.rfile.read(length // 2)
            proxy.stalled.set()
            proxy.resume.wait(120)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if len(body) < length or fault == "drop":
            self.close_connection = True
            return
        if isinstance(fault, int):
            code = {403: "InvalidAccessKeyId", 503: "SlowDown", 507: "XMinioStorageFull"}[fault]
            self.answer(fault, {}, ERROR.format(code).encode())
            return
        status, headers, data = ask(proxy.upstream, method, self.path, body, dict(self.headers))
        proxy.done.append((method, name))
        if fault == "lose":
            self.close_connection = True
            return
        if fault == "flip" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault == "cut":
            data = data[: len(data) // 2]
        self.answer(status, headers, data)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on

    def answer(self, status: int, headers: dict, data: bytes) -> None:
        self.send_response(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(data))
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        """Say nothing."""


@contextlib.contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    """A proxy before a server."""
    with Proxy(port) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.resume.set()
            proxy.shutdown()


def environment(endpoint: str) -> dict[str, str]:
    """The variables of processes that use a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "NO_PROXY": os.environ.get("NO_PROXY", "") + f",{HOST}",
    }
