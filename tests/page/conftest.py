"""A browser without a window, where there is one: Chromium from the distribution, driven by playwright."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import contextmanager

import pytest

from circuitsketch.page.server import PageServer

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def find_chromium():
    """The path of a Chromium, or None."""
    chosen = os.environ.get("CHROMIUM")
    return chosen or next((path for path in map(shutil.which, NAMES) if path), None)


@pytest.fixture(scope="session")
def browser():
    """A headless browser that reaches this machine alone."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'circuitsketch[browser]'")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or set CHROMIUM to its path")
    api.expect.set_options(timeout=30_000)
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox", ONLY_HERE])
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Opens an address in a new tab of its own; what went wrong in it, or was asked for elsewhere, fails the test.

    `expected` lists words of what may go wrong.
    """
    tabs, wrong, expected = [], [], []

    def open_tab(address, ready=True, **options):
        options = {"viewport": {"width": 1600, "height": 1000}, "accept_downloads": True} | options
        tab = browser.new_context(**options).new_page()
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: check_address(request.url, address, wrong))
        tab.goto(address)
        if ready:
            tab.wait_for_selector("body[data-ready]")
        tabs.append(tab)
        return tab

    open_tab.expected = expected
    yield open_tab
    for tab in tabs:
        tab.context.close()
    assert [text for text in wrong if not any(word in text for word in expected)] == []


def check_address(url, page, wrong):
    """Note an address that is not of the page's own host."""
    if not url.startswith((page.split("?")[0], "data:", "blob:")):
        wrong.append(f"asked for {url}")


@contextmanager
def serving(view, **options):
    """A server of a view, in a thread."""
    server = PageServer(view, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def serve():
    """Serves a view: `with serve(view) as server`."""
    return serving
