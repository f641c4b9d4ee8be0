"""chat.py: whole characters, whole turns, an end at eos."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import chat
from chat import Sampling, fitting_history, printable
from common.errors import UserError
from model.generate import Generation
from tokenizer.bpe import Tokenizer
from tokenizer.dialog import own_dialog
from tokenizer.template import ASSISTANT, BOS, EOS, PAD, render_prompt
from tokenizer.writer import Writer
from training.checkpoint import load_for_inference

ROOT = Path(__file__).parents[2]


def test_a_character_split_over_tokens_is_written_whole(tok: Tokenizer) -> None:
    text = "naïve 🦊🏽 漢字, नमस्ते, é\nand\ttabs"
    ids = tok.encode(text)
    assert any("�" in tok.decode([i]) for i in ids)  # some tokens do end inside a character
    pieces: list[str] = []
    on_token = Writer(own_dialog(tok), pieces.append).on_token
    for i in ids:
        on_token(0, i)
    assert not any("�" in piece for piece in pieces)
    assert "".join(pieces) == text


def test_control_characters_do_not_reach_the_terminal(tok: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Generation(tok.encode("a\x1b[31mb\rc"))

    def generate(*args: Any, on_token: Any, **kwargs: Any) -> list[Generation]:
        for i in said.ids:
            on_token(0, i)
        return [said]

    monkeypatch.setattr(chat, "generate", generate)
    shown: list[str] = []
    chat.reply(None, own_dialog(tok), [BOS], Sampling(), 0, shown.append)  # type: ignore[arg-type]
    assert "".join(shown) == "a [31mb c" == printable("a\x1b[31mb\rc")


@settings(deadline=None)
@given(
    text=st.text(st.sampled_from("ab\n🦊é"), max_size=30),
    stop=st.lists(st.text(st.sampled_from("ab\n🦊é"), min_size=1, max_size=4), max_size=3),
)
def test_an_answer_ends_before_the_first_stop_text_and_none_of_it_is_shown(
    tok: Tokenizer, text: str, stop: list[str]
) -> None:
    shown: list[str] = []
    writer = Writer(own_dialog(tok), shown.append, stop)
    ids = tok.encode(text)
    for n, i in enumerate(ids):
        writer.on_token(0, i)
        assert text.startswith("".join(shown))
        if writer.ends(0, ids[: n + 1]):
            break
    first = min(((text.index(one) + len(one), text.index(one)) for one in stop if one in text), default=None)
    assert writer.finish() == (text if first is None else text[: first[1]]) == "".join(shown)
    assert writer.stopped == (first is not None)


def test_without_stop_texts_nothing_is_held_back(tok: Tokenizer) -> None:
    shown: list[str] = []
    writer = Writer(own_dialog(tok), shown.append)
    for n, i in enumerate(ids := tok.encode("some words, and others")):
        writer.on_token(0, i)
        assert "".join(shown) == tok.decode(ids[: n + 1])


def test_a_stop_text_ends_the_answer_and_its_turn(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tok, _ = load_for_inference(run / "ckpt1")
    prompt = render_prompt(tok, "What does `os.path.join` do?")
    greedy = Sampling(temperature=0.0, max_new_tokens=30)
    said, whole = chat.reply(model, own_dialog(tok), prompt, greedy, 0, len)
    stop = whole[len(whole) // 2 :][:3]
    out: list[str] = []
    cut, answer = chat.reply(model, own_dialog(tok), prompt, replace(greedy, stop=[stop]), 0, out.append)
    assert answer == whole[: whole.index(stop)] == "".join(out)
    assert cut.ended
    assert len(cut.ids) < len(said.ids)
    side = chat.Side(model, own_dialog(tok))
    chat.chat([side], iter(["What does `os.path.join` do?"]), replace(greedy, stop=[stop]), len)
    assert side.history[-1][1] == answer


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "is more than max_new_tokens"),
        ({"stop": [""]}, "an empty text"),
        ({"min_p": 1.5}, "--min_p 1.5: must be from 0 to 1"),
        ({"repetition_penalty": 0.0}, "--repetition_penalty 0.0: must be from 0.01"),
    ],
)
def test_limits_that_cannot_be_are_one_line(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Sampling(**flags)


def test_history_is_shortened_by_whole_turns_oldest_first(tok: Tokenizer) -> None:
    history = [(f"What is {i}?", f"It is {i}.") for i in range(8)]
    whole = render_prompt(tok, "And now?", history=history)
    assert fitting_history(own_dialog(tok), history, "And now?", len(whole) + 20, 20) == (whole, history)
    for seq_len in range(40, len(whole) + 20, 7):
        prompt, kept = fitting_history(own_dialog(tok), history, "And now?", seq_len, 5)
        assert kept == history[len(history) - len(kept) :]
        assert prompt == render_prompt(tok, "And now?", history=kept)
        assert len(prompt) + 5 <= seq_len
        more = render_prompt(tok, "And now?", history=history[len(history) - len(kept) - 1 :])
        assert len(kept) == len(history) or len(more) + 5 > seq_len  # one turn more would not have fitted


def test_a_question_that_fills_the_context_is_one_clear_line(tok: Tokenizer) -> None:
    with pytest.raises(UserError, match="too long"):
        fitting_history(own_dialog(tok), [], "why " * 100, 64, 10)


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch, tok: Tokenizer) -> list[list[int]]:
    """Prompts that chat gives to the model; the model always answers "yes 1", "yes 2", ..."""
    seen: list[list[int]] = []

    def answers(model: object, prompts: list[list[int]], on_token: Any, **options: object) -> list[Generation]:
        seen.append(prompts[0])
        ids = tok.encode(f"yes {len(seen)}")
        for i in ids:
            on_token(0, i)
        return [Generation(ids, True)]

    monkeypatch.setattr(chat, "generate", answers)
    return seen


class Shaped:
    class shape:
        seq_len = 200


def test_earlier_turns_are_given_along_until_reset(tok: Tokenizer, prompts: list[list[int]]) -> None:
    out: list[str] = []
    lines = ["a?\n", "\n", "b?\n", "/reset\n", "c?\n", "/other\n", "d?\n", "/quit\n", "e?\n"]
    side = chat.Side(Shaped(), own_dialog(tok))  # type: ignore[arg-type]
    chat.chat([side], iter(lines), Sampling(max_new_tokens=5), out.append)
    assert prompts == [
        render_prompt(tok, "a?"),
        render_prompt(tok, "b?", history=[("a?", "yes 1")]),
        render_prompt(tok, "c?"),
        render_prompt(tok, "d?", history=[("c?", "yes 3")]),
    ]
    assert all(prompt[0] == BOS and prompt.count(BOS) == 1 and prompt[-1] == ASSISTANT for prompt in prompts)
    assert side.history == [("c?", "yes 3"), ("d?", "yes 4")]
    assert "commands are /reset and /quit\n" in out


def test_two_sides_answer_each_question_from_their_own_memory(tok: Tokenizer, prompts: list[list[int]]) -> None:
    out: list[str] = []
    sides = [chat.Side(Shaped(), own_dialog(tok), "one"), chat.Side(Shaped(), own_dialog(tok), "two")]  # type: ignore[arg-type]
    chat.chat(sides, iter(["a?", "b?", "/reset", "c?"]), Sampling(max_new_tokens=5), out.append)
    assert prompts == [
        render_prompt(tok, "a?"),
        render_prompt(tok, "a?"),
        render_prompt(tok, "b?", history=[("a?", "yes 1")]),
        render_prompt(tok, "b?", history=[("a?", "yes 2")]),
        render_prompt(tok, "c?"),
        render_prompt(tok, "c?"),
    ]
    assert "".join(out).startswith("one: yes 1\n\ntwo: yes 2\n\none: yes 3\n\ntwo: yes 4\n\n(forgotten)\n")


def test_two_checkpoints_answer_and_three_are_one_line(run: Path) -> None:
    command = [sys.executable, str(ROOT / "chat.py"), str(run / "ckpt1"), str(run / "ckpt1")]
    flags = ["--max_new_tokens", "5", "--question", "a?"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.startswith(f"{run / 'ckpt1'}: ")
    wrong = subprocess.run([*command, "ckpt3", *flags], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: 3 checkpoints: one answers, or two side by side\n"


def test_a_question_that_is_too_long_does_not_end_the_chat(tok: Tokenizer, prompts: list[list[int]]) -> None:
    out: list[str] = []
    lines = iter(["why " * 200, "a?"])
    chat.chat([chat.Side(Shaped(), own_dialog(tok))], lines, Sampling(max_new_tokens=5), out.append)  # type: ignore[arg-type]
    assert out[0].startswith("error: the question is too long")
    assert prompts == [render_prompt(tok, "a?")]


def test_an_answer_ends_at_eos_and_shows_no_marker(run: Path) -> None:
    model, tok, _ = load_for_inference(run / "ckpt2")
    ends = []
    for thing in ("sky", "lamp", "cat", "book"):
        out: list[str] = []
        prompt = render_prompt(tok, f"What color has {thing} 1-2?")
        said, _ = chat.reply(
            model, own_dialog(tok), prompt, Sampling(temperature=0.0, max_new_tokens=40), 0, out.append
        )
        assert "<|" not in "".join(out)
        assert "".join(out) == tok.decode(said.ids)
        ends.append(said.stopped)
    assert all(ends)


def test_each_of_several_tokens_ends_an_answer_and_none_is_shown(run: Path) -> None:
    model, tok, _ = load_for_inference(run / "ckpt2")
    dialog, prompt = own_dialog(tok), render_prompt(tok, "What color has sky 1-2?")
    greedy = Sampling(temperature=0.0, max_new_tokens=40)
    said, answer = chat.reply(model, dialog, prompt, greedy, 0, len)
    out: list[str] = []
    several = replace(dialog, eos=[PAD, EOS])
    assert chat.reply(model, several, prompt, greedy, 0, out.append) == (said, answer)
    assert said.stopped
    assert "".join(out) == answer


def test_a_chat_template_in_a_checkpoint_is_never_run(run: Path, tmp_path: Path) -> None:
    """Prompts are rendered by tokenizer/template.py; jinja is for other engines, in their sandbox."""
    shutil.copytree(run / "ckpt2", tmp_path / "ckpt2")
    file, proof = tmp_path / "ckpt2" / "tokenizer_config.json", tmp_path / "was-run"
    hostile = f"{{{{ cycler.__init__.__globals__.os.system('touch {proof}') }}}}"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": hostile}))
    with pytest.raises(UserError, match=r"tokenizer_config\.json"):
        load_for_inference(tmp_path / "ckpt2")
    model, tok, _ = load_for_inference(tmp_path / "ckpt2", hashes=False)
    prompt = render_prompt(tok, "What color has sky 1-2?")
    assert chat.reply(model, own_dialog(tok), prompt, Sampling(temperature=0.0, max_new_tokens=4), 0, len)[1]
    other = AutoTokenizer.from_pretrained(tmp_path / "ckpt2")
    with pytest.raises(jinja2.exceptions.SecurityError):
        other.apply_chat_template([{"role": "user", "content": "hello"}])
    assert not proof.exists()


def test_same_seed_same_answer_another_seed_another(run: Path) -> None:
    model, tok, _ = load_for_inference(run / "ckpt1")  # hardly trained: its draws are wide
    prompt = render_prompt(tok, "What color has sky 1-2?")
    draws = [
        chat.reply(model, own_dialog(tok), prompt, Sampling(2.0, 0, 1.0, max_new_tokens=20, seed=seed), 0, len)[1]
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_piped_questions_are_answered_and_a_mistake_is_one_line(run: Path) -> None:
    def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "chat.py"), *arguments, "--device", "cpu"],
            cwd=run.parents[1], input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip

    out = command("ckpt2", "--run", "a", "--temperature", "0", stdin="What color has sky 1-2?\n/reset\n")
    assert out.returncode == 0, out.stderr
    assert out.stdout.endswith("(forgotten)\n")
    one = command("a/ckpt2", "--question", "What color has sky 1-2?", "--temperature", "0")
    assert one.stdout.strip() == out.stdout.split("\n")[0]
    assert one.stdout.strip()
    wrong = command("a/ckpt2", "--temperature", "warm")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: --temperature: expected a number, got 'warm' (see --help)\n"
    empty = command("a/ckpt2", "--question", " ")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert empty.stderr.startswith("error: --question: is empty")
    assert len(empty.stderr.splitlines()) == 1


def test_a_piped_question_that_is_no_utf8_is_one_line_and_the_next_is_answered(run: Path) -> None:
    command = [sys.executable, str(ROOT / "chat.py"), "a/ckpt2", "--device", "cpu", "--max_new_tokens", "5"]
    asked = b"What is caf\xe9?\nWhat color has sky 1-2?\n/reset\n"
    out = subprocess.run(command, cwd=run.parents[1], input=asked, capture_output=True, check=False)
    assert out.returncode == 0, out.stderr
    lines = out.stdout.decode().splitlines()
    what = "a text is not valid UTF-8, or holds a lone surrogate"
    assert lines[0] == f"error: {what}: the byte 0xE9 stands at character 12; repair it first"
    assert lines[1]
    assert lines[-1] == "(forgotten)"
    assert not any(line.startswith("error") for line in lines[1:])
