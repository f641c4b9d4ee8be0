"""The page: asking, stopping, comparing, settings, what it keeps, and what it says when something goes wrong."""

import json
import re
import threading

import pytest

from tests.server.chromium import (  # noqa: F401  (fixtures)
    Page,
    ask,
    expect,
    finished,
    open_page,
    said,
    sent,
    start_browser,
    start_server,
    stored,
    window_settings,
)
from tests.server.scripted import TOO_LONG, Answer, Scripted

# ---- asking


def test_an_answer_appears_while_it_comes_and_ends_with_its_figures(page: Page, server: Scripted) -> None:
    gate = threading.Event()
    server.answers["ckpt1"] = Answer(["Soil ", gate, "is ", "alive."], tokens=(31, 1234))
    page.get_by_label("Your message").fill("What is soil?")
    page.get_by_role("button", name="Send").click()
    expect(said(page)).to_have_text("Soil ")
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "true")
    gate.set()
    finished(page)
    expect(said(page)).to_have_text("Soil is alive.")
    expect(page.locator(".stats")).to_have_text(
        re.compile(r"^31 tokens read · 1,234 written · [\d,.]+ a second · ended by itself$")
    )
    assert sent(server) == [("user", "What is soil?")]
    assert server.requests[0]["stream"] is True
    assert server.requests[0]["stream_options"] == {"include_usage": True}


def test_the_rate_counts_from_the_question(page: Page, server: Scripted) -> None:
    pause = threading.Event()
    server.answers["ckpt1"] = Answer([pause, "a", "b"], tokens=(1, 101))
    page.get_by_label("Your message").fill("Count.")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    pause.set()
    finished(page)
    found = re.search(r"([\d,.]+) a second", page.locator(".stats").inner_text())
    assert found is not None
    assert 10 < float(found.group(1).replace(",", "")) < 203  # 101 tokens in half a second or, on a busy machine, more


def test_characters_and_events_cut_between_packets_arrive_whole(page: Page, server: Scripted) -> None:
    event = 'data: {"choices":[{"delta":{"content":"é\\u00e9 "},"finish_reason":null}]}\r\n\r\n'
    end = 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    server.answers["ckpt1"] = Answer([], raw=": a comment\r\n\r\n" + event * 3 + end)
    ask(page, "Accents?")
    expect(said(page)).to_have_text("éé éé éé ")


def test_a_conversation_is_sent_along(page: Page, server: Scripted) -> None:
    ask(page, "First?")
    ask(page, "Second?")
    assert sent(server) == [("user", "First?"), ("assistant", "An answer."), ("user", "Second?")]


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_ends_the_request_and_keeps_what_was_said(page: Page, server: Scripted, how: str) -> None:
    server.answers["ckpt1"] = Answer(["One ", "two ", threading.Event(), "three"])
    page.get_by_label("Your message").fill("Count.")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("One two ")
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    finished(page)
    assert server.left.wait(5), "the server still writes"
    expect(page.locator(".stats")).to_have_text(
        re.compile(r"^about 2 tokens written · ([\d,.]+ a second · )?stopped by you$")
    )
    server.answers["ckpt1"] = Answer()
    ask(page, "Go on.")
    assert sent(server) == [("user", "Count."), ("assistant", "One two "), ("user", "Go on.")]


def test_an_answer_that_was_cut_off_says_so(page: Page, server: Scripted) -> None:
    server.answers["ckpt1"] = Answer(ended="length")
    ask(page, "Tell me all.")
    expect(page.locator(".stats")).to_contain_text("cut off at max tokens")


def test_regenerate_replaces_the_last_answer(page: Page, server: Scripted) -> None:
    ask(page, "First?")
    ask(page, "Second?")
    expect(page.get_by_role("button", name="Regenerate")).to_have_count(1)
    server.answers["ckpt1"] = Answer(["Another one."])
    page.get_by_role("button", name="Regenerate").click()
    expect(said(page).last).to_have_text("Another one.")
    finished(page)
    expect(said(page)).to_have_count(2)
    assert sent(server) == [("user", "First?"), ("assistant", "An answer."), ("user", "Second?")]


def test_two_models_answer_the_same_question_each_with_its_own_history(page: Page, server: Scripted) -> None:
    server.answers = {"ckpt1": Answer(["one"]), "ckpt3": Answer(["three"])}
    ask(page, "Alone?")
    page.get_by_role("button", name="Compare").click()
    ask(page, "Together?")
    server.answers["ckpt3"] = Answer(["three again"])
    ask(page, "Still?")
    expect(page.locator(".answer h2")).to_have_text(["ckpt1", "ckpt1", "ckpt3", "ckpt1", "ckpt3"])
    expect(said(page)).to_have_text(["one", "one", "three", "one", "three again"])
    last = {body["model"]: [message["content"] for message in body["messages"]] for body in server.requests[-2:]}
    assert last == {
        "ckpt1": ["Alone?", "one", "Together?", "one", "Still?"],
        "ckpt3": ["Together?", "three", "Still?"],
    }
    left, right = (page.locator(".answer").nth(number).bounding_box() for number in (3, 4))
    assert right["x"] > left["x"] + left["width"]  # side by side


def test_the_second_model_is_another_than_the_first(page: Page, server: Scripted) -> None:
    page.get_by_role("combobox", name="Model", exact=True).select_option("ckpt3")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_label("Second model")).to_have_value("ckpt1")
    expect(page.locator("#greeting")).to_have_text("Ask ckpt3 and ckpt1 something.")
    page.get_by_role("button", name="Compare").click()
    ask(page, "Alone again?")
    assert [body["model"] for body in server.requests] == ["ckpt3"]


def test_one_stop_ends_both_and_one_failure_leaves_the_other(page: Page, server: Scripted) -> None:
    server.answers = {
        "ckpt1": Answer(status=500, error={"message": "out of memory"}),
        "ckpt3": Answer(["three ", threading.Event()]),
    }
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("Your message").fill("Both?")
    page.keyboard.press("Enter")
    expect(page.locator(".error")).to_contain_text("Out of memory.")
    expect(said(page).last).to_have_text("three ")
    page.keyboard.press("Escape")
    finished(page)
    expect(page.locator(".stats").last).to_contain_text("stopped by you")
    server.answers["ckpt1"] = Answer(["better"])
    page.get_by_role("button", name="Try again").click()
    expect(said(page).first).to_have_text("better")


def test_settings_reach_the_request_and_what_is_empty_does_not(page: Page, server: Scripted) -> None:
    ask(page, "With what the page begins with?")
    names = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed", "stop"}
    assert {name: server.requests[0][name] for name in names & set(server.requests[0])} == {
        "temperature": 0.7,
        "top_k": 50,
        "max_tokens": 256,
    }
    page.get_by_role("button", name="Settings").click()
    values = {
        "Temperature": "0", "Top-p": "0.9", "Top-k": "", "Min-p": "0.05", "Repetition penalty": "1.1",
        "Max tokens": "64", "Seed": "7", "Stop texts": "Q:\n\\n\\n", "Context": "Soil is alive.",
    }  # fmt: skip
    for label, value in values.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Done").click()
    page.get_by_role("combobox", name="Model", exact=True).select_option("ckpt3")
    ask(page, "And now?")
    asked = server.requests[-1]
    assert {name: asked[name] for name in names & set(asked)} == {
        "temperature": 0, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1,
        "max_tokens": 64, "seed": 7, "stop": ["Q:", "\n\n"],
    }  # fmt: skip
    assert asked["model"] == "ckpt3"
    expect(page.locator(".stats").last).to_contain_text("ended by itself or at a stop text")
    assert sent(server)[0] == ("system", "Soil is alive.")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Reset these settings").click()
    page.get_by_role("button", name="Done").click()
    ask(page, "And again?")
    assert server.requests[-1]["temperature"] == 0.7
    assert "seed" not in server.requests[-1]


def test_a_setting_out_of_range_is_shown_and_nothing_is_sent(page: Page, server: Scripted) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Top-p").fill("1.5")
    page.get_by_role("button", name="Done").click()
    if page.locator("#settings").is_visible():  # the browser shows it at once
        page.keyboard.press("Escape")
    page.get_by_label("Your message").fill("Hello?")
    page.keyboard.press("Enter")
    expect(page.locator("#settings")).to_be_visible()
    expect(page.get_by_label("Top-p")).to_be_focused()
    assert server.requests == []
    page.get_by_label("Top-p").fill("0.5")
    page.keyboard.press("Escape")
    page.get_by_label("Your message").press("Enter")
    expect(said(page)).to_have_text("An answer.")


# ---- keeping


def test_a_reload_keeps_conversation_settings_and_models(page: Page, server: Scripted) -> None:
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Done").click()
    page.get_by_label("Second model").select_option("ckpt1")
    ask(page, "First?")
    shown = page.locator("#turns").inner_text()
    page.reload()
    expect(page.locator(".answer h2")).to_have_text(["ckpt1", "ckpt1"])
    assert page.locator("#turns").inner_text() == shown
    ask(page, "Second?")
    assert server.requests[-1]["seed"] == 7
    assert len(sent(server)) == 3


def test_an_answer_that_a_reload_cut_short_can_be_asked_for_again(page: Page, server: Scripted) -> None:
    server.answers["ckpt1"] = Answer(["One ", threading.Event()])
    page.get_by_label("Your message").fill("Count.")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("One ")
    page.reload()
    expect(said(page)).to_have_text("One ")
    expect(page.locator(".error")).to_contain_text(re.compile("interrupted|lost in the middle"))
    server.answers["ckpt1"] = Answer(["One two three."])
    page.get_by_role("button", name="Try again").click()
    expect(said(page)).to_have_text("One two three.")
    assert sent(server) == [("user", "Count.")]


def test_an_answer_that_a_crash_cut_short_can_be_asked_for_again(page: Page, server: Scripted) -> None:
    server.answers["ckpt1"] = Answer(["One ", threading.Event()])
    page.get_by_label("Your message").fill("Count.")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("One ")
    after = page.context.new_page()  # finds what the first has kept so far
    after.goto(server.url())
    expect(after.locator(".error")).to_contain_text("This answer was interrupted.")
    server.answers["ckpt1"] = Answer(["One two three."])
    after.get_by_role("button", name="Try again").click()
    expect(said(after)).to_have_text("One two three.")


def test_the_key_is_sent_and_kept_for_the_tab_alone(page: Page, server: Scripted) -> None:
    server.key = "sk-garden"
    page.reload()
    expect(page.locator("#notice")).to_contain_text("API key")
    page.get_by_role("button", name="Open settings").click()
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type("sk-garden")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#notice")).to_be_hidden()
    ask(page, "Hello?")
    assert server.requests[-1]["key"] == "Bearer sk-garden"
    page.reload()
    ask(page, "Still?")
    assert "sk-garden" not in stored(page)
    assert "sk-garden" in page.evaluate("JSON.stringify(sessionStorage)")


def test_forget_leaves_nothing_in_the_browser(page: Page, server: Scripted) -> None:
    server.key = "sk-garden"
    page.evaluate('sessionStorage.setItem("loam.key", JSON.stringify("sk-garden"))')
    page.reload()
    page.get_by_role("switch", name="Dark").click()
    ask(page, "A secret?")
    assert "A secret?" in stored(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Forget everything").click()
    expect(page.locator(".turn")).to_have_count(0)
    assert stored(page) == "{}"
    assert page.evaluate("sessionStorage.length") == 0
    page.reload()
    expect(page.locator("#empty")).to_be_visible()
    assert stored(page) == "{}"


def test_a_new_conversation_can_be_undone_until_it_begins(page: Page, server: Scripted) -> None:
    ask(page, "First?")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    assert "First?" not in stored(page)
    page.get_by_role("button", name="Undo").click()
    expect(said(page)).to_have_text("An answer.")
    assert "First?" in stored(page)
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Another?")
    assert sent(server) == [("user", "Another?")]
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(page: Page, server: Scripted) -> None:
    answer = {"model": "ckpt1", "text": "x" * 90_000, "ended": "stop", "error": None, "tokens": None, "rate": None}
    turns = [{"question": f"question {number}", "answers": [answer | {"leftOut": 0}]} for number in range(12)]
    page.evaluate(
        'text => localStorage.setItem("loam.conversation", text)', json.dumps({"turns": turns, "first": [3, 0]})
    )
    page.reload()
    expect(page.locator(".turn")).to_have_count(12)
    ask(page, "One more?")
    kept = json.loads(page.evaluate('localStorage.getItem("loam.conversation")'))
    assert len(json.dumps(kept)) < 1_100_000
    assert [turn["question"] for turn in kept["turns"]][-1] == "One more?"
    dropped = 13 - len(kept["turns"])
    assert dropped > 0
    assert kept["first"] == [3 - dropped, 0]
    expect(page.locator(".turn")).to_have_count(len(kept["turns"]))
    expect(page.locator(".question").first).to_contain_text(kept["turns"][0]["question"])


def test_it_works_where_the_browser_keeps_nothing(page: Page, server: Scripted) -> None:
    page.add_init_script('Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };')
    page.reload()
    ask(page, "First?")
    ask(page, "Second?")
    assert len(sent(server)) == 3
    expect(page.locator("#said")).to_contain_text("not kept")


# ---- what goes wrong


GARBAGE = "data: <html>502 Bad Gateway</html>\n\n"
FAULTS = {
    "key": (
        Answer(status=401, error={"message": "no"}),
        "The server asks for an API key, or does not accept this one. Enter it in Settings.",
        "Open settings",
    ),
    "too many": (
        Answer(status=429, error={"message": "30 requests a minute for this key"}, headers={"Retry-After": "12"}),
        "30 requests a minute for this key. Wait 12 seconds, then try again.",
        "Try again",
    ),
    "too many, without a word": (Answer(status=429), "Too many requests. Wait a moment, then try again.", "Try again"),
    "too many today": (
        Answer(status=429, error={"message": "9 tokens a day"}, headers={"Retry-After": "40000"}),
        "9 tokens a day. Wait 12 hours, then try again.",
        "Try again",
    ),
    "more than a key may have": (
        Answer(status=429, error={"message": "lower max_tokens", "code": "request_too_large"}),
        "Lower max_tokens. Look at Settings.",
        "Open settings",
    ),
    "large": (
        Answer(status=413, error={"message": "the body is larger than 1,048,576 bytes"}),
        "The body is larger than 1,048,576 bytes. Write less, or shorten the context in Settings.",
        "Open settings",
    ),
    "context": (
        Answer(status=400, error=TOO_LONG),
        "holds 512 with the answer: shorten it. Write less, or shorten the context in Settings.",
        "Open settings",
    ),
    "refused": (
        Answer(status=400, error={"message": "top_k: should be less than 2147483648"}),
        "Top_k: should be less than 2147483648. Look at Settings.",
        "Open settings",
    ),
    "no model": (
        Answer(status=404, error={"message": "there is no model 'ckpt1'", "code": "model_not_found"}),
        "There is no model 'ckpt1'. Choose another model, then try again.",
        "Try again",
    ),
    "failed": (Answer(status=503), "The server failed (503). Try again in a moment.", "Try again"),
    "cut": (Answer(["One "], ended=None), "The connection was lost in the middle of the answer.", "Try again"),
    "reset": (
        Answer(["One ", 0.3], ended=None, headers={"Content-Length": "100000"}),
        "The connection was lost in the middle of the answer.",
        "Try again",
    ),
    "garbage": (Answer(["One "], raw=GARBAGE), "The server sent something that is no answer.", "Try again"),
    "told in the stream": (
        Answer(["One "], raw='data: {"error": {"message": "the engine stopped"}}\n\n'),
        "The engine stopped.",
        "Try again",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_is_one_line_with_what_to_do(page: Page, server: Scripted, fault: str) -> None:
    server.answers["ckpt1"], line, button = FAULTS[fault]
    partial = server.answers["ckpt1"].status == 200
    ask(page, "Hello?")
    expect(page.locator(".error span")).to_contain_text(line)
    assert "\n" not in page.locator(".error span").inner_text()
    expect(page.locator(".error button")).to_have_text(button)
    expect(page.locator("#said")).to_contain_text(line)
    expect(said(page)).to_have_text("One " if partial else "")
    server.answers["ckpt1"] = Answer()
    ask(page, "And now?")  # it goes on, without what failed
    assert sent(server) == [("user", "And now?")]
    expect(said(page).last).to_have_text("An answer.")


def test_a_server_that_is_gone_is_told_and_asked_again(page: Page, server: Scripted) -> None:
    page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
    ask(page, "Hello?")
    expect(page.locator(".error span")).to_contain_text("The server does not answer.")
    page.reload()
    expect(page.locator("#notice")).to_contain_text("The server does not answer.")
    page.unroute("**/v1/**")
    page.locator("#notice").get_by_role("button", name="Try again").click()
    expect(page.locator("#notice")).to_be_hidden()
    page.locator(".error").get_by_role("button", name="Try again").click()
    expect(said(page)).to_have_text("An answer.")


def test_oldest_turns_are_left_out_where_the_context_is_full(page: Page, server: Scripted) -> None:
    server.answers["ckpt1"] = Answer(fits=5)
    for number in range(4):
        ask(page, f"question {number}")
    expect(page.locator(".error span")).to_contain_text("Leave out the oldest turns, or begin a new conversation.")
    page.get_by_role("button", name="Leave out the oldest turns").click()
    expect(said(page).last).to_have_text("An answer.")
    assert [content for _, content in sent(server)] == ["question 2", "An answer.", "question 3"]
    expect(page.locator(".stats").last).to_contain_text("without the oldest 2 turns")
    ask(page, "question 4")
    assert sent(server)[0] == ("user", "question 2")


def test_an_answer_that_the_context_cut_off_says_so_and_can_do_without_old_turns(page: Page, server: Scripted) -> None:
    server.answers["ckpt1"] = Answer(ended="length", tokens=(12, 500))
    ask(page, "Alone?")
    expect(page.locator(".stats")).to_contain_text("cut off, as the context is full")
    expect(page.get_by_role("button", name="Leave out the oldest turns")).to_have_count(0)  # there are none
    ask(page, "With another?")
    server.answers["ckpt1"] = Answer(ended="length", tokens=(12, 499))
    page.get_by_role("button", name="Leave out the oldest turns").click()
    expect(page.locator(".stats").last).to_contain_text("without the oldest turn · cut off at max tokens")
    assert sent(server) == [("user", "With another?")]
