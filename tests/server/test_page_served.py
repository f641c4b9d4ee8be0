"""The page as `serve.py` serves it: a key, an answer that is the model's, the stop, a limit, a context that is full."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.ledger import LEDGER
from tests.server import conftest
from tests.server.chromium import Page, ask, expect, finished, said, start_browser, watched  # noqa: F401  (a fixture)
from tests.server.conftest import NAME, ROOT, SEQ_LEN, Running, environment, until

QUESTION = "What color has cat 1-2?"


@dataclass
class Site:
    """A server with two keys: one without limits, and one of a request a minute."""

    running: Running
    free: str
    limited: str

    def settled(self) -> list[str]:
        """How requests have ended, by the server's ledger."""
        with closing(sqlite3.connect(self.running.folder / LEDGER)) as ledger:
            return [status for (status,) in ledger.execute("SELECT status FROM requests WHERE status != 'open'")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Site]:
    """It runs while the module's tests do."""
    folder = tmp_path_factory.mktemp("site")

    def make_key(*arguments: str) -> str:
        command = [sys.executable, str(ROOT / "server" / "keys.py"), "create", *arguments]
        made = subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True, timeout=60)
        found = re.search(r"loam-\S+", made.stdout)
        assert found is not None, made.stdout + made.stderr
        return found[0]

    free, limited = make_key("free"), make_key("limited", "--requests_per_minute", "1")
    with conftest.server(folder, checkpoint) as running:
        yield Site(running, free, limited)


def enter(page: Page, **settings: str) -> None:
    """Fill fields of the settings by their ids."""
    page.get_by_role("button", name="Settings", exact=True).click()
    for name, value in settings.items():
        page.locator(f"#{name}").fill(value)
    page.get_by_role("button", name="Done").click()


def test_the_page_says_what_the_model_says(browser: Any, site: Site) -> None:
    with watched(browser, f"{site.running.url}/", {}) as page:
        expect(page.locator("#notice")).to_contain_text("The server asks for an API key")
        enter(page, key=site.free, temperature="0", max_tokens="24", context="Seen in stone 1.")
        expect(page.locator("#model option")).to_have_text([NAME])
        page.get_by_role("button", name="Compare").click()
        ask(page, QUESTION)
        messages: list[Any] = [
            {"role": "system", "content": "Seen in stone 1."},
            {"role": "user", "content": QUESTION},
        ]
        with site.running.client(site.free) as client:
            answer = client.chat.completions.create(model=NAME, messages=messages, temperature=0, max_tokens=24)
        assert answer.usage is not None
        for column in range(2):
            assert said(page).nth(column).inner_text().strip() == (answer.choices[0].message.content or "").strip()
            expect(page.locator(".stats").nth(column)).to_contain_text(
                f"{answer.usage.prompt_tokens} tokens read · {answer.usage.completion_tokens} written"
            )


def test_a_stop_frees_the_server(browser: Any, site: Site) -> None:
    with watched(browser, f"{site.running.url}/", {}) as page:
        enter(page, key=site.free, temperature="0", max_tokens="4000")
        expect(page.locator("#model option")).to_have_text([NAME])
        for number in range(20):  # until the server had not written the whole answer before the stop came
            before = len(site.settled())
            page.get_by_label("Your message").fill(f"What color has cat 1-{number}?")
            page.keyboard.press("Enter")
            expect(said(page).last).not_to_be_empty()
            page.keyboard.press("Escape")
            finished(page)
            until(lambda count=before: len(site.settled()) > count)  # type: ignore[misc]
            if "cancelled" in site.settled():
                break
            page.get_by_role("button", name="New conversation").click()
        assert "cancelled" in site.settled()
        expect(page.locator(".stats").last).to_contain_text("stopped by you")


def test_a_limit_and_a_full_context_say_what_to_do(browser: Any, site: Site) -> None:
    with watched(browser, f"{site.running.url}/", {}) as page:
        enter(page, key=site.limited, max_tokens="2")
        expect(page.locator("#model option")).to_have_text([NAME])
        ask(page, QUESTION)
        ask(page, "Again?")
        expect(page.locator(".error span")).to_contain_text(
            re.compile(r"^The key's limit of 1 requests a minute is reached. Wait \d+ seconds, then try again.$")
        )
        enter(page, key=site.free)
        ask(page, "cat " * SEQ_LEN)
        expect(page.locator(".error span").last).to_contain_text("tokens, and the context of a/ckpt1 holds 4,096")
        expect(page.locator(".error button").last).to_have_text(
            "Leave out the oldest turns" if said(page).first.inner_text() else "Open settings"
        )
