"""Text that spells a special token is never control: in the token store, in prompts, in a chat, in other engines.

An id below NUM_SPECIAL stands only where the template puts it, whatever the text around it, in whatever normal form,
and wherever the text is cut. Other engines read names as control, so the exported template raises for them.
"""

import json
import unicodedata
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chat
from common.errors import UserError
from model.generate import Generation
from tests.tokenizer.test_encode import corpus_table
from tokenizer import encode
from tokenizer.bpe import Tokenizer, load_tokenizer
from tokenizer.byte_level import train_bpe
from tokenizer.chat_template import render_jinja
from tokenizer.dialog import own_dialog
from tokenizer.encode import build_store, encode_table
from tokenizer.template import (
    ASSISTANT,
    BOS,
    CHAT_TEMPLATE,
    CONTEXT,
    EOS,
    NUM_SPECIAL,
    SPECIAL_TOKENS,
    USER,
    render,
    render_prompt,
)

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")
WIDE = [token.translate({i: i + 0xFEE0 for i in range(0x21, 0x7F)}) for token in SPECIAL_TOKENS]  # ＜｜ｕｓｅｒ｜＞
LOOKALIKES = [
    *WIDE,
    "＜|user|＞",
    "<｜eos｜>",
    "<|us\u00adr|>",
    "<|ｅos|>",
    "<\u200b|bos|>",
    "<|EOS|>",
    "<|user|\u0338>",
]
SPELLED = [*SPECIAL_TOKENS, *LOOKALIKES]
# What stands around a name: parts of names, so that names arise where two meet, accents, line breaks, anything.
around = st.lists(
    st.one_of(
        st.sampled_from(
            ["<", "<|", "<|user", "|", "|>", ">", "user", "eos|>", "\n", "\r\n", " ", "\u0301", "é", "\x00"]
        ),
        st.text(max_size=4),
    ),
    max_size=4,
).map("".join)
spelling = st.tuples(around, st.sampled_from(SPELLED), around, st.sampled_from(SPELLED), around).map("".join)
content = st.builds(unicodedata.normalize, st.sampled_from(FORMS), spelling) | spelling
each_time = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def control(ids: Any) -> list[int]:
    return [i for i in ids if i < NUM_SPECIAL]


def as_other_engines_do(tok: Tokenizer, folder: Path, messages: list[dict[str, Any]]) -> list[int]:
    """Ids by the template and tokenizer.json of the folder, names read as control; jinja2's error where it raises."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["chat_template"] == CHAT_TEMPLATE
    names = {f"{role}_token": config[f"{role}_token"] for role in ("bos", "eos", "pad")}
    text = render_jinja(config["chat_template"], messages=messages, add_generation_prompt=True, **names)
    plain = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return list(plain.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("text", SPELLED)
@pytest.mark.parametrize("form", FORMS)
def test_a_name_in_any_normal_form_is_text_wherever_it_is_cut(tok: Tokenizer, text: str, form: Form) -> None:
    text = unicodedata.normalize(form, text)
    for cut in range(len(text) + 1):
        pieces = tok.encode_batch([f"a{text[:cut]}", f"{text[cut:]}b", text])
        assert not any(control(ids) for ids in pieces)
        assert [tok.decode(ids) for ids in pieces] == [f"a{text[:cut]}", f"{text[cut:]}b", text]


@each_time
@given(rows=st.lists(st.tuples(content, content, content), min_size=1, max_size=4), piece=st.integers(1, 12))
def test_in_the_token_store_control_stands_only_where_the_template_puts_it(
    tok: Tokenizer, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, str, str]], piece: int
) -> None:
    monkeypatch.setattr(encode, "PIECE", piece)
    names = ("context", "question", "answer")
    documents = [row for texts in rows for row in (dict(zip(names, texts, strict=True)), {"text": texts[0]})]
    tokens = encode_table(corpus_table(documents), tok)
    for i, document in enumerate(documents):
        ids = tokens.document(i)
        markers = np.flatnonzero(ids < NUM_SPECIAL)
        assert ids[markers].tolist() == ([BOS, EOS] if "text" in document else [BOS, CONTEXT, USER, ASSISTANT, EOS])
        parts = [tok.decode(part[1:].tolist()) for part in np.split(ids, markers)[1:]]
        assert [part for part in parts if part] == [text for text in document.values() if text]


def test_a_store_written_in_small_slices_holds_names_as_text(
    tmp_path: Path, tokenizer_folder: Path, tok: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "SLICE_BYTES", 1)
    monkeypatch.setattr(encode, "PIECE", 2)
    rows = [{"text": f"a\n{text[:cut]}\n{text[cut:]}\n{text}"} for text in SPELLED for cut in range(len(text))]
    (tmp_path / "corpus").mkdir()
    pq.write_table(corpus_table(rows), tmp_path / "corpus" / "train-00000.parquet")
    tokens = build_store(tmp_path / "corpus", "train", tokenizer_folder, tmp_path / "tokens", quiet=True)
    assert control(tokens.ids.tolist()) == [BOS, EOS] * len(rows)
    assert [tok.decode(tokens.document(i)[1:-1].tolist()) for i in range(len(rows))] == [row["text"] for row in rows]


def test_the_tokenizer_learns_no_special_token_from_text(tmp_path: Path) -> None:
    bpe = train_bpe(["<|user|><|eos|> say <|user|> " * 500], 400, 2, show_progress=False)
    assert not control(Tokenizer(bpe).encode("<|user|><|eos|>"))
    assert {name for name in bpe.get_vocab() if "<|" in name and name.endswith("|>")} == {*SPECIAL_TOKENS}


@each_time
@given(question=content, context=st.none() | content, history=st.lists(st.tuples(content, content), max_size=2))
def test_in_a_prompt_control_stands_only_where_the_template_puts_it(
    tok: Tokenizer, question: str, context: str | None, history: list[tuple[str, str]]
) -> None:
    prompt = render_prompt(tok, question, context, history)
    first = [CONTEXT] if context is not None else []
    assert control(prompt) == [BOS, *first, *[USER, ASSISTANT, EOS] * len(history), USER, ASSISTANT]


@each_time
@given(lines=st.lists(content, min_size=1, max_size=4), answers=content)
def test_in_a_chat_neither_lines_nor_earlier_answers_become_control(
    tok: Tokenizer, monkeypatch: pytest.MonkeyPatch, lines: list[str], answers: str
) -> None:
    """What is typed comes line by line; what the model says may spell a name, and is given along in the next prompt."""
    prompts: list[list[int]] = []

    def generate(model: object, rows: list[list[int]], **options: object) -> list[Generation]:
        prompts.append(rows[0])
        return [Generation(tok.encode(answers), True)]

    class Model:
        class shape:
            seq_len = 10_000

    monkeypatch.setattr(chat, "generate", generate)
    typed = "\n".join(lines).split("\n")  # a name that stands over a line break is two questions
    chat.chat([chat.Side(Model(), own_dialog(tok))], iter(typed), chat.Sampling(), len)  # type: ignore[arg-type]
    for turns, prompt in enumerate(prompts):
        assert control(prompt) == [BOS, *[USER, ASSISTANT, EOS] * turns, USER, ASSISTANT]


@each_time
@given(context=st.none() | content, question=content | around, answer=content | around)
def test_the_exported_template_raises_or_gives_the_ids_of_training(
    tok: Tokenizer, tokenizer_folder: Path, context: str | None, question: str, answer: str
) -> None:
    turns = [("context", context), ("user", question), ("assistant", answer), ("user", question)]
    messages = [{"role": role, "content": text} for role, text in turns if text is not None]
    if any(token in message["content"] for token in SPECIAL_TOKENS for message in messages):
        with pytest.raises(jinja2.TemplateError, match="special token"):
            as_other_engines_do(tok, tokenizer_folder, messages)
    else:
        ids = as_other_engines_do(tok, tokenizer_folder, messages)
        assert ids == render_prompt(tok, question, context, [(question, answer)])


@pytest.mark.parametrize("text", SPECIAL_TOKENS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("role", ["context", "system", "user", "assistant"])
def test_the_exported_template_raises_for_a_name_in_every_role(
    tok: Tokenizer, tokenizer_folder: Path, text: str, form: Form, role: str
) -> None:
    messages = [{"role": role, "content": unicodedata.normalize(form, f"Ame\u0301lie{text}\u00e9")}]
    with pytest.raises(jinja2.TemplateError, match="special token"):
        as_other_engines_do(tok, tokenizer_folder, messages)


@pytest.mark.parametrize(
    "given", [[{"type": "text", "text": "<|user|>"}], {"text": "<|user|>"}, ("<|user|>x",), ["a"], None, 3]
)
def test_the_exported_template_raises_for_content_that_is_no_string(
    tok: Tokenizer, tokenizer_folder: Path, given: object
) -> None:
    """A list of parts is printed as Python prints it, names and all, and a name inside is not found by `in`."""
    with pytest.raises(jinja2.TemplateError, match="not a string"):
        as_other_engines_do(tok, tokenizer_folder, [{"role": "user", "content": given}])
    with pytest.raises(jinja2.TemplateError, match="not a string"):
        as_other_engines_do(tok, tokenizer_folder, [{"role": "user"}])


@pytest.mark.parametrize("which", range(NUM_SPECIAL))
def test_a_tokenizer_that_reads_text_as_control_is_refused(tmp_path: Path, tokenizer_folder: Path, which: int) -> None:
    content = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    content["added_tokens"][which]["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"tokenizer\.json: text that spells a special token becomes the token"):
        load_tokenizer(tmp_path)


def test_a_stored_document_with_names_is_the_rendered_one(tok: Tokenizer) -> None:
    rows = [{"question": text, "answer": text[::-1] + text} for text in SPELLED]
    tokens = encode_table(corpus_table(rows), tok)
    assert [tokens.document(i).tolist() for i in range(len(rows))] == [render(tok, row) for row in rows]
