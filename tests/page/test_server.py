"""A server answers who knows its token, on this machine, and nobody else; it outlives what goes wrong."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import time
from urllib.parse import urlsplit

import page_runs
import pytest
from small_runs import raises

import circuitsketch as cs
from circuitsketch.page.server import PageServer
from circuitsketch.page.view import View


@pytest.fixture(scope="module")
def view():
    return View(page_runs.measured(), title="rude")


@pytest.fixture(scope="module")
def server(view, serve):
    with serve(view) as started:
        yield started


def request(server, path, body=None, token=None, headers=(), method=None):
    """Status, headers and text of a request."""
    host, port = server.server_address[:2]
    connection = http.client.HTTPConnection(host, port, timeout=30)
    method = method or ("GET" if body is None else "POST")
    connection.request(method, path, body, {"X-Token": server.token if token is None else token} | dict(headers))
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, dict(response.getheaders()), text


def test_the_address_leads_to_the_page(server):
    parts = urlsplit(server.address)
    assert parts.hostname == "127.0.0.1" and len(server.token) >= 32
    status, headers, text = request(server, f"/?{parts.query}")
    assert status == 200 and headers["Content-Type"].startswith("text/html") and "<h1>" in text
    assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store" and "Python" not in headers["Server"]


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=abc", "/data", "/calibration", "/check?job=1", "/nothing"])
def test_without_the_token_nothing_is_answered(server, path):
    status, _, text = request(server, path, token="wrong")
    assert status == 403 and "token" in text and "user" not in text
    assert request(server, "/ask", '{"ids": [1]}', token="\u00e9".encode().decode("latin-1"))[0] == 403


def test_a_page_of_somebody_else_that_leads_here_is_refused(server):
    status, _, text = request(server, "/data", headers={"Host": "evil.example:80"})
    assert status == 403 and "this machine" in text


def test_a_host_that_others_reach_needs_a_word(view):
    with raises(cs.InputError, "--allow-remote"):
        PageServer(view, "0.0.0.0")
    allowed = PageServer(view, "0.0.0.0", allow_remote=True)
    allowed.server_close()
    with raises(cs.InputError, "cannot listen"):
        PageServer(view, "192.0.2.1", allow_remote=True)


def test_a_port_in_use_is_named(view, server):
    port = server.server_address[1]
    with raises(cs.InputError, f"127.0.0.1:{port}: .*--port"):
        PageServer(view, port=port)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "JSON|Expecting"),
        ("[]", "JSON object"),
        ('{"ids": [99]}', "no example 99"),
        ('{"ids": ["<b>"]}', "no example '<b>'"),
        ("", "4 MiB"),
    ],
)
def test_a_malformed_question_is_an_error_with_words(server, body, words):
    status, _, text = request(server, "/ask", body, method="POST")
    assert status in (400, 413) and re.search(words, json.loads(text)["error"])


def test_a_question_that_is_too_long_is_not_read(server):
    status, headers, text = request(server, "/ask", "x", headers={"Content-Length": str(5 << 20)})
    assert status == 413 and "4 MiB" in text


def test_answers_are_the_views_and_compressed_for_who_takes_that(server, view):
    status, headers, text = request(server, "/ask", '{"ids": [4, 9]}')
    assert status == 200 and "Content-Encoding" not in headers
    answer, expected = json.loads(text), view.ask([4, 9])
    assert answer["values"] == expected["values"] and answer["warnings"] == expected["warnings"]
    host, port = server.server_address[:2]
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/data", headers={"X-Token": server.token, "Accept-Encoding": "gzip"})
    response = connection.getresponse()
    assert json.loads(gzip.decompress(response.read())) == json.loads(json.dumps(view.describe()))
    connection.close()


def wait_for(server, ids):
    """The end of a retraining."""
    job = json.loads(request(server, "/check", json.dumps({"ids": ids}))[2])["job"]
    for _ in range(600):
        now = json.loads(request(server, f"/check?job={job}")[2])
        if "answer" in now or "error" in now:
            return now
        assert 0 <= now["share"] < 1 and now["text"]
        time.sleep(0.05)
    raise AssertionError("it does not end")


def test_a_retraining_runs_in_the_background_and_a_divergence_is_told(server):
    run = page_runs.make()
    done = wait_for(server, [4, 9])
    assert done["answer"]["truth"]["values"][0][-1] == pytest.approx(
        float(page_runs.loss(run.params(run.retrain([4, 9])))), rel=1e-9
    )
    assert "diverged" in wait_for(server, page_runs.DIVERGES)["error"]
    assert request(server, "/ask", '{"ids": [4]}')[0] == 200
    assert request(server, "/check?job=12345")[0] == 404 and request(server, "/check?job=x")[0] == 400


def test_a_sketch_that_disappears_is_told_and_answers_go_on(serve, tmp_path):
    path = tmp_path / "a.sketch"
    cs.sketch(page_runs.make(), 8, order=2, per_example="series", path=path)
    view = View({"loss": cs.open_sketch(path).measure(page_runs.loss)}, load_run=page_runs.make)
    before = view.ask([0])
    with serve(view, store=path) as server:
        path.rename(tmp_path / "elsewhere")
        answer = json.loads(request(server, "/ask", '{"ids": [0]}')[2])
        assert answer["values"] == before["values"] and "disappeared" in answer["warnings"][-1]
