"""The page opened in a real browser, headless Chromium, and watched: fixtures and words for tests of the page.

A test that takes `page` fails on a request to another host, a breach of the policy or an error of the page's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.scripted import Scripted, scripted

CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.exists():
    pytest.skip(f"needs a browser: {CHROMIUM} is not there", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
expect = sync_api.expect
expect.set_options(timeout=20_000)  # bounds, not measures: a busy machine takes seconds
Page = Any  # of playwright, which may be missing

WIDE = {"width": 1200, "height": 800}
PHONE = {"width": 390, "height": 844}
WATCH = """
  window.breaches = [];
  addEventListener("securitypolicyviolation", (event) => breaches.push(event.violatedDirective));
"""


@pytest.fixture(scope="module", name="browser")
def start_browser() -> Iterator[Any]:
    """Headless Chromium."""
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(name="server")
def start_server() -> Iterator[Scripted]:
    """A scripted server with ckpt1 and ckpt3."""
    with scripted() as running:
        yield running


@pytest.fixture(name="settings")
def window_settings() -> dict[str, Any]:
    """Of the browser's window; tests parametrize it."""
    return {}


@pytest.fixture(name="page")
def open_page(browser: Any, server: Scripted, settings: dict[str, Any]) -> Iterator[Page]:
    """The page of the scripted server, open and watched."""
    with watched(browser, server.url(), settings) as opened:
        expect(opened.locator("#model option")).to_have_count(len(server.answers))
        yield opened


@contextmanager
def watched(browser: Any, url: str, settings: dict[str, Any]) -> Iterator[Page]:
    """The page at an address; `settings` of the window."""
    context = browser.new_context(**{"viewport": WIDE, **settings})
    context.set_default_timeout(10_000)
    opened = context.new_page()
    opened.add_init_script(WATCH)
    asked: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(url)
    try:
        yield opened
        assert opened.evaluate("breaches") == []
        assert [address for address in asked if not address.startswith(url)] == []
        # Chromium tells of every refused request by itself: tests of faults plant those.
        assert [error for error in errors if not error.startswith("Failed to load resource")] == []
    finally:
        context.close()


def ask(page: Page, question: str) -> None:
    """Type, send, and wait for the end of all answers; behind a reload the models come first."""
    expect(page.locator("#model option")).not_to_have_count(0)
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator(".question").last).to_contain_text(question)
    finished(page)


def finished(page: Page) -> None:
    """Wait until no answer is on its way."""
    expect(page.locator("#send")).to_have_text("Send")
    expect(page.locator('.answer[aria-busy="true"]')).to_have_count(0)


def said(page: Page) -> Any:
    """Texts of the answers."""
    return page.locator(".said")


def sent(server: Scripted, number: int = -1) -> list[tuple[str, str]]:
    """Role and content of a request's messages."""
    return [(message["role"], message["content"]) for message in server.requests[number]["messages"]]


def stored(page: Page) -> str:
    """All that localStorage holds."""
    return page.evaluate("JSON.stringify(localStorage)")
