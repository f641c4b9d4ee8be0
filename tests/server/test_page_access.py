"""The page for everyone: text as text, keyboard, phones, contrast, names for screen readers, motion."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.server.chromium import (  # noqa: F401  (fixtures)
    PHONE,
    Page,
    ask,
    expect,
    finished,
    open_page,
    said,
    sent,
    start_browser,
    start_server,
    window_settings,
)
from tests.server.scripted import Answer, Scripted

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
LINES = [f"line {number}\n" for number in range(80)]


# ---- text


def test_text_is_never_read_as_html(page: Page, server: Scripted) -> None:
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script> **bold**  two  spaces &amp;'
    server.answers = {'<b id="evil">ckpt</b>': Answer([evil, "\n```<i>\n<u>code</u>\n```"])}
    page.reload()
    expect(page.locator("#model option")).to_have_count(1)
    ask(page, evil)
    page.reload()
    assert page.locator(".said").evaluate("node => node.firstChild.data") == evil
    expect(page.locator(".said pre")).to_have_text("<u>code</u>")
    expect(page.locator(".question")).to_contain_text(evil)
    assert page.locator("#turns :is(img, script, b, i, u), #greeting *, option *").count() == 0
    expect(page.locator(".answer h2")).to_have_text('<b id="evil">ckpt</b>')
    assert page.title() == "loam"


def test_fenced_code_is_set_apart_and_copied_as_it_came(page: Page, server: Scripted) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text = "Try:\n```python\nif a:\n    b = `c`\n\n```\nThat is all.\n```\nopen  end"
    server.answers["ckpt1"] = Answer(list(text))
    ask(page, "Code?")
    expect(page.locator(".said pre")).to_have_text(["if a:\n    b = `c`\n", "open  end"])
    assert "mono" in page.locator(".said pre").first.evaluate("node => getComputedStyle(node).fontFamily")
    assert page.locator(".said").evaluate("n => [...n.childNodes].map((c) => c.textContent)") == [
        "Try:", "if a:\n    b = `c`\n", "That is all.", "open  end"
    ]  # fmt: skip
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == text


def test_copy_works_without_the_clipboard_of_secure_pages(page: Page, server: Scripted) -> None:
    page.context.grant_permissions(["clipboard-read"])
    page.add_init_script(
        "window.read = navigator.clipboard.readText.bind(navigator.clipboard);"
        'Object.defineProperty(navigator, "clipboard", { value: undefined });'
    )
    page.reload()
    server.answers["ckpt1"] = Answer(["Two\n  lines"])
    ask(page, "Hello?")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copy")).to_have_text("Copied")
    assert page.evaluate("read()") == "Two\n  lines"
    expect(page.get_by_role("button", name="Copy")).to_be_focused()


def test_a_selection_outlives_the_end_of_the_answer(page: Page, server: Scripted) -> None:
    gate = threading.Event()
    server.answers["ckpt1"] = Answer(["Soil is ", gate, "alive."])
    page.get_by_label("Your message").fill("Soil?")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("Soil is ")
    said(page).evaluate("node => getSelection().setBaseAndExtent(node.firstChild, 0, node.firstChild, 4)")
    gate.set()
    finished(page)
    assert page.evaluate("String(getSelection())") == "Soil"


def test_a_long_answer_is_followed_only_from_the_bottom(page: Page, server: Scripted) -> None:
    gates = [threading.Event(), threading.Event()]
    server.answers["ckpt1"] = Answer([*LINES, gates[0], *LINES, gates[1], *LINES])
    below = "document.documentElement.scrollHeight - innerHeight - scrollY"
    page.get_by_label("Your message").fill("All?")
    page.keyboard.press("Enter")
    expect(said(page)).to_contain_text(LINES[-1])
    page.wait_for_timeout(100)
    assert page.evaluate(below) < 32
    page.evaluate("scrollTo(0, 300)")
    gates[0].set()
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") == 300
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    gates[1].set()
    finished(page)
    assert page.evaluate(below) < 32
    expect(page.get_by_label("Your message")).to_be_in_viewport()


# ---- keyboard, width, colours, names


def test_the_keyboard_alone_is_enough(page: Page, server: Scripted) -> None:
    box = page.get_by_label("Your message")
    expect(box).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert server.requests == []
    page.keyboard.press("Enter")
    finished(page)
    assert sent(server) == [("user", "one\ntwo")]
    expect(box).to_be_focused()
    expect(box).to_have_value("")
    page.keyboard.press("Enter")  # nothing to send
    page.locator(".skip").focus()
    order: list[str] = []
    for _ in range(10):
        if order:
            page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", order
    assert order == [
        "Skip to your message", "model", "compare", "new", "open", "dark", "Copy", "Regenerate", "question", "send"
    ]  # fmt: skip
    page.get_by_role("button", name="Settings").press("Enter")
    expect(page.locator("#settings")).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || settings.contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    expect(page.get_by_role("button", name="Settings")).to_be_focused()
    assert len(server.requests) == 1


def test_enter_while_an_answer_comes_sends_nothing(page: Page, server: Scripted) -> None:
    gate = threading.Event()
    server.answers["ckpt1"] = Answer(["One ", gate])
    page.keyboard.type("First?")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("One ")
    page.keyboard.type("Second?")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your message")).to_have_value("Second?")
    gate.set()
    finished(page)
    page.keyboard.press("Enter")
    finished(page)
    assert len(server.requests) == 2


def overflow(page: Page) -> list[str]:
    """Tags that stand out of the window at the right, of the page and of the settings, where that makes them scroll."""
    return page.evaluate(
        """() => [document.documentElement, settings].flatMap((box) => {
          const outside = (element) => element.getBoundingClientRect().right > innerWidth;
          const tags = () => [...box.querySelectorAll("*")].filter(outside).map((element) => element.outerHTML);
          const more = box.scrollWidth - box.clientWidth;
          return more > 0 ? [`scrolls by ${more}`, ...tags()] : [];
        })"""
    )


@pytest.mark.parametrize("settings", [{"viewport": PHONE}, {"viewport": {"width": 320, "height": 568}}])
def test_no_horizontal_scroll_on_a_phone(page: Page, server: Scripted) -> None:
    name = "runs/a-long-name-of-a-run/" + "checkpoint" * 4
    word = "Donaudampfschifffahrt" * 8
    server.answers = {
        name: Answer([word, f"\n```\n{word}\n```\n", "end"]),
        name + "2": Answer(status=500, error={"message": word}),
    }
    page.reload()
    expect(page.locator("#model option")).to_have_count(2)
    assert overflow(page) == []
    page.get_by_role("button", name="Compare").click()
    ask(page, word)
    assert overflow(page) == []
    upper, lower = (page.locator(".answer").nth(number).bounding_box() for number in (0, 1))
    assert lower["y"] > upper["y"] + upper["height"]  # one below the other
    page.get_by_role("button", name="Settings").click()
    assert overflow(page) == []
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="New conversation").click()
    assert overflow(page) == []


@pytest.mark.parametrize("settings", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_every_text_has_a_contrast_of_4_5(page: Page, server: Scripted) -> None:
    looked, faint = page.evaluate(CONTRAST)
    assert looked > 10
    assert faint == []
    page.get_by_role("button", name="Compare").click()
    server.answers["ckpt3"] = Answer(status=500)
    server.answers["ckpt1"] = Answer(["text\n```\ncode\n```\n"])
    ask(page, "Hello?")
    page.get_by_role("button", name="Settings").click()
    looked, faint = page.evaluate(CONTRAST)
    assert looked > 40
    assert faint == []


@pytest.mark.parametrize("settings", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_dark_mode_follows_the_system_until_it_is_switched(page: Page, settings: dict[str, Any]) -> None:
    def brightness() -> int:
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    dark = settings["color_scheme"] == "dark"
    switch = page.get_by_role("switch", name="Dark")
    for expected in (dark, not dark):
        expect(switch).to_have_attribute("aria-checked", str(expected).lower())
        assert (brightness() < 200) is expected
        page.reload()
        expect(switch).to_have_attribute("aria-checked", str(expected).lower())
        assert (brightness() < 200) is expected
        if expected is dark:
            switch.press("Space")


def controls(page: Page) -> list[tuple[str, str]]:
    """Role and name of all that can be operated or is a region, as assistive technology sees them."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    wanted = {
        "button",
        "textbox",
        "combobox",
        "spinbutton",
        "switch",
        "link",
        "dialog",
        "list",
        "article",
        "group",
        "img",
    }
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in wanted
    ]


def test_every_control_has_a_name(page: Page, server: Scripted) -> None:
    page.get_by_role("button", name="Compare").click()
    server.answers["ckpt1"] = Answer(["```\ncode\n```"])
    server.answers["ckpt3"] = Answer(status=500)
    ask(page, "Hello?")
    seen = controls(page)
    page.get_by_role("button", name="Settings").click()
    seen += controls(page)
    roles = {role for role, _ in seen}
    assert {"button", "textbox", "combobox", "spinbutton", "switch", "dialog", "article", "group"} <= roles
    assert len(seen) > 25
    assert [role for role, name in seen if not name.strip()] == []
    assert ("switch", "Dark") in seen
    assert ("article", "Answer of ckpt3") in seen
    assert ("button", "Copy the answer of ckpt1") in seen
    assert ("spinbutton", "Top-p") in seen


def test_screen_readers_hear_finished_answers_only(page: Page, server: Scripted) -> None:
    gate = threading.Event()
    server.answers["ckpt1"] = Answer(["Soil is ", gate, "alive."])
    region = page.locator('[aria-live="polite"]')
    expect(region).to_have_count(1)
    page.get_by_label("Your message").fill("Soil?")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("Soil is ")
    expect(region).to_have_text("")
    gate.set()
    expect(region).to_have_text("ckpt1 answered: Soil is alive.")


@pytest.mark.parametrize("settings", [{"reduced_motion": "reduce"}, {"reduced_motion": "no-preference"}])
def test_nothing_moves_where_motion_is_unwanted(page: Page, server: Scripted, settings: dict[str, Any]) -> None:
    gate = threading.Event()
    server.answers["ckpt1"] = Answer(["Soil ", gate])
    page.get_by_label("Your message").fill("Soil?")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("Soil ")
    moving = page.evaluate("document.getAnimations().length")
    assert moving == (0 if settings["reduced_motion"] == "reduce" else 1)
    gate.set()
