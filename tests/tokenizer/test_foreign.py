"""Another's tokenizer and template give the ids that `transformers` gives, and answers and their ends are marked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from common.errors import UserError
from tests.tokenizer.made_elsewhere import (
    CHATML,
    HEADERS,
    INST,
    KINDS,
    SPECIAL,
    TEMPLATES,
    THINKING,
    byte_level,
    pieces,
    write,
)
from tokenizer.dialog import Messages
from tokenizer.foreign import foreign_dialog
from tokenizer.foreign_files import PLAIN_TEMPLATE
from tokenizer.invariants import broken_invariants

ENDS = {"ChatML": "<|im_end|>", "thinking": "<|im_end|>", "INST": "</s>", "headers": "<|eot_id|>", "Zephyr": "</s>"}
ASKED = {"role": "user", "content": "How many legs has a spider?"}
SAID = {"role": "assistant", "content": "It has eight legs."}
AGAIN = {"role": "user", "content": "  And 東京 🦊 in e\u0301 café?\r\n"}
LAST = {"role": "assistant", "content": "def f(x):\n    return x"}
SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATIONS: list[Messages] = [[ASKED, SAID], [SYSTEM, ASKED, SAID], [ASKED, SAID, AGAIN, LAST],
                                 [SYSTEM, ASKED, SAID, AGAIN, LAST, ASKED, SAID]]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A folder for each kind of tokenizer and template."""
    return {
        (kind, name): write(tmp_path_factory.mktemp("made"), make(), TEMPLATES[name], ENDS[name])
        for kind, make in KINDS.items()
        for name in TEMPLATES
    }


def theirs(folder: Path, messages: Messages, answer_begins: bool) -> list[int]:
    from transformers import AutoTokenizer

    tok = AutoTokenizer.from_pretrained(folder)
    chat = [dict(message) for message in messages]
    found: Any = tok.apply_chat_template(chat, add_generation_prompt=answer_begins, return_dict=False)
    return list(found)


def trained_texts(folder: Path, messages: Messages) -> tuple[list[str], list[str]]:
    """The texts that a row trains as answers, and the tokens that end them."""
    dialog = foreign_dialog(folder)
    row = dialog.document(messages)
    assert len(row.trained) == len(row.ids)
    assert row.trained.dtype == np.uint8
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (row.trained == 1).astype(int), [0]))))
    spans = [row.ids[a:b] for a, b in edges.reshape(-1, 2)]
    ends = [dialog.decode_bytes([row.ids[i]]).decode() for i in np.flatnonzero(row.trained == 2)]
    return [dialog.decode_bytes(span).decode() for span in spans], ends


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(folders: dict, kind: str, name: str) -> None:
    folder = folders[kind, name]
    dialog = foreign_dialog(folder)
    for messages in CONVERSATIONS:
        assert dialog.prompt(messages[:-1]) == theirs(folder, messages[:-1], True)
        assert dialog.document(messages).ids == theirs(folder, messages, False)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_what_ends_them_are_trained_and_nothing_else(folders: dict, kind: str, name: str) -> None:
    for messages in CONVERSATIONS:
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        texts, ends = trained_texts(folders[kind, name], messages)
        if name == "thinking":
            assert texts == [f"<think>\n\n</think>\n\n{answers[-1]}"]
        elif name == "Zephyr":  # its generation prompt is without the line break that stands before answers
            assert [text.removeprefix("\n") for text in texts] == answers
        else:
            assert [text.strip(" ") for text in texts] == answers
        assert ends == [ENDS[name]] * len(texts)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_begins_the_row_that_answers_it(folders: dict, kind: str, name: str) -> None:
    dialog = foreign_dialog(folders[kind, name])
    for messages in CONVERSATIONS:
        prompt, row = dialog.prompt(messages[:-1]), dialog.document(messages)
        assert row.ids[: len(prompt)] == prompt
        assert row.trained[len(prompt)] == 1
        assert row.trained[len(prompt) - 1] == 0
        assert dialog.eos[0] in row.ids[len(prompt) :]


def test_one_bos_where_template_and_tokenizer_both_write_it(folders: dict) -> None:
    for kind in KINDS:
        dialog = foreign_dialog(folders[kind, "headers"])
        bos = dialog.begin[0]
        assert dialog.prompt([SYSTEM, ASKED]).count(bos) == 1
        assert dialog.prompt([SYSTEM, ASKED])[0] == bos
        assert foreign_dialog(folders[kind, "ChatML"]).prompt([ASKED]).count(bos) == 0  # as transformers asks it


def test_a_context_is_a_systems_words_and_neighbours_are_one(folders: dict) -> None:
    dialog = foreign_dialog(folders["byte-level", "ChatML"])
    context = {"role": "context", "content": "Seen in a web."}
    assert dialog.prompt([context, ASKED]) == dialog.prompt([{**context, "role": "system"}, ASKED])
    both = {"role": "system", "content": "Be brief.\n\nSeen in a web."}
    assert dialog.prompt([SYSTEM, context, ASKED]) == dialog.prompt([both, ASKED])


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "drops"])
def test_where_a_template_has_no_system_a_context_stands_before_the_question(tmp_path: Path, refuses: bool) -> None:
    refusal = "{{ raise_exception('System role not supported') }}" if refuses else ""
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}" + refusal + "{% else %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    dialog = foreign_dialog(write(tmp_path, byte_level(), template))
    text = dialog.decode_bytes(dialog.prompt([SYSTEM, ASKED])).decode()
    assert text == f"<|im_start|>user\nBe brief.\n\n{ASKED['content']}<|im_end|><|im_start|>assistant\n"
    assert any("before the question" in line for line in broken_invariants(tmp_path))


# -- content that spells special tokens


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_content_that_spells_a_special_token_stays_text(folders: dict, kind: str, name: str) -> None:
    dialog = foreign_dialog(folders[kind, name])
    control = {*dialog.banned, *dialog.eos}
    for token in SPECIAL:
        assert not control.intersection(dialog.encode(f"a {token} b"))
        plain = [{**ASKED, "content": "a XX b"}, {**SAID, "content": "see XX"}]
        spelled = [{**m, "content": m["content"].replace("XX", token)} for m in plain]
        expected, row = dialog.document(plain), dialog.document(spelled)
        assert [i for i in row.ids if i in control] == [i for i in expected.ids if i in control]
        found = dialog.decode_bytes(row.ids).decode()
        assert found == dialog.decode_bytes(expected.ids).decode().replace("XX", token)
        assert (row.trained == 2).sum() == 1
        assert f"see {token}" in trained_texts(folders[kind, name], spelled)[0][0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_for_spelled_tokens_gives_the_same_ids_otherwise(folders: dict, kind: str) -> None:
    from tokenizer.foreign import RENAMED, Words

    for name in TEMPLATES:
        words = Words(folders[kind, name])
        assert words._renamed is not None
        for messages in CONVERSATIONS:
            text = words.text(messages)
            renamed = words._spelling.sub(lambda spelled: RENAMED + spelled[0], text)
            assert words._renamed.encode(renamed, add_special_tokens=False).ids == words.ids(text)


# -- templates with gaps


def test_a_template_without_an_end_gets_eos_behind_the_last_answer(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    folder = write(tmp_path, byte_level(), template)
    assert trained_texts(folder, [ASKED, SAID]) == ([" It has eight legs.\n"], ["</s>"])
    assert any("eos is added" in line for line in broken_invariants(folder))


def test_a_generation_prompt_that_ends_within_a_token_of_the_answer(tmp_path: Path) -> None:
    """Byte-level words begin with their space: the last answer is encoded behind its prompt, as a model writes it."""
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
        "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    folder = write(tmp_path, byte_level(), template)
    dialog = foreign_dialog(folder)
    said = {**SAID, "content": "the question"}
    prompt, row = dialog.prompt([ASKED]), dialog.document([ASKED, said])
    assert row.ids[: len(prompt)] == prompt
    assert theirs(folder, [ASKED, said], False)[: len(prompt)] != prompt
    assert trained_texts(folder, [ASKED, said]) == (["the question"], ["</s>"])


def test_a_template_without_a_generation_prompt_gets_what_stands_before_answers(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    folder = write(tmp_path, byte_level(), template)
    dialog = foreign_dialog(folder)
    assert dialog.decode_bytes(dialog.prompt([ASKED])).endswith(b"<|im_end|>\n<|im_start|>assistant\n")
    assert trained_texts(folder, [ASKED, SAID, AGAIN, LAST])[0] == [SAID["content"], LAST["content"]]
    assert any("no generation prompt" in line for line in broken_invariants(folder))


def test_a_folder_without_a_template_is_asked_plainly(tmp_path: Path) -> None:
    for kind, make in KINDS.items():
        folder = write(tmp_path / kind, make(), None)
        dialog = foreign_dialog(folder)
        text = dialog.decode_bytes(dialog.prompt([SYSTEM, ASKED])).decode()
        assert text.replace("<s> ", "<s>") == f"<s>Be brief.\n\nQuestion:\n{ASKED['content']}\n\nAnswer:\n"
        texts, ends = trained_texts(folder, [ASKED, SAID, AGAIN, LAST])
        assert texts == [SAID["content"], LAST["content"]]
        assert ends == ["</s>", "</s>"]
        assert any("no chat template" in line for line in broken_invariants(folder))
        (folder / "chat_template.jinja").write_text(PLAIN_TEMPLATE)
        assert dialog.prompt([SYSTEM, ASKED]) == theirs(folder, [SYSTEM, ASKED], True)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('never') }}", "never"),
        ("{% for", "unexpected"),
        ("nothing", "leaves out the question"),
        ("{{ ''.__class__.__mro__ }}{{ messages[0].content }}", "unsafe"),
    ],
)
def test_a_template_that_cannot_ask_is_one_line(tmp_path: Path, template: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        foreign_dialog(write(tmp_path, byte_level(), template))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "tool", "content": "a"}, SAID],
        [ASKED, ASKED, SAID],
        [{**ASKED, "content": "a \udcff"}, SAID],
        [{**ASKED, "content": "a \ufdd3"}, SAID],
    ],
    ids=["a role", "an order", "a surrogate", "a mark"],
)
def test_messages_that_cannot_be_rendered_are_a_value_error_of_one_line(folders: dict, messages: Messages) -> None:
    dialog = foreign_dialog(folders["byte-level", "INST"])
    for render in (dialog.document, lambda some: dialog.prompt(some[:-1])):
        with pytest.raises(ValueError, match=r"roles|alternate|surrogate|noncharacter") as error:
            render(messages)
        assert "\n" not in str(error.value)


# -- files


def test_eos_of_all_files_end_answers_and_other_special_tokens_are_banned(tmp_path: Path) -> None:
    folder = write(tmp_path, byte_level(), HEADERS)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [401, 402, 10**9]}))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 403, "vocab_size": 420}))
    dialog = foreign_dialog(folder)
    tok = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    named = [tok.token_to_id(token) for token in ("<|eot_id|>", "</s>")]
    assert dialog.eos == list(dict.fromkeys([*named, 401, 402, 403]))
    special = {tok.token_to_id(token) for token in SPECIAL}
    assert set(dialog.banned) == (special - set(dialog.eos)) | set(range(dialog.vocab_size, 420))
    assert dialog.vocab_size == tok.get_vocab_size()
    assert dialog.decode_bytes([419]) == b""


def test_tokens_that_the_config_alone_names_are_known(tmp_path: Path) -> None:
    """As GPT-2's, whose tokenizer.json lists none as added."""
    folder = write(tmp_path, byte_level(), CHATML, eos="<|im_end|>")
    file = folder / "tokenizer.json"
    state = json.loads(file.read_text())
    state["model"]["vocab"] |= {token["content"]: token["id"] for token in state["added_tokens"]}
    state["added_tokens"] = []
    file.write_text(json.dumps(state))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["extra_special_tokens"] = ["<|im_start|>"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tok = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    dialog = foreign_dialog(folder)
    assert dialog.eos[0] == tok.token_to_id("<|im_end|>")
    assert dialog.prompt([ASKED]) == theirs(folder, [ASKED], True)


def test_nothing_is_cut_or_padded_whatever_the_file_says(tmp_path: Path) -> None:
    tok = byte_level()
    tok.enable_truncation(8)
    tok.enable_padding(length=64)
    folder = write(tmp_path, tok, CHATML)
    state = json.loads((folder / "tokenizer.json").read_text())
    state |= {"truncation": json.loads(tok.to_str())["truncation"], "padding": json.loads(tok.to_str())["padding"]}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    dialog = foreign_dialog(folder)
    assert dialog.decode_bytes(dialog.encode("How many legs has a spider?")) == b"How many legs has a spider?"
    assert dialog.decode_bytes(dialog.encode("a")) == b"a"


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_ids_are_the_text(folders: dict, kind: str) -> None:
    dialog = foreign_dialog(folders[kind, "INST"])
    for text in ("a", "def f(x):\n    return x", "東京 🦊", "\x00\r\n\t", "e\u0301 \u2603", "naïve"):
        found = dialog.decode_bytes(dialog.encode(text)).decode()
        assert found.removeprefix("" if kind == "byte-level" else " ") == text
        assert b"".join(dialog.decode_bytes([i]) for i in dialog.encode(text)).decode() == found


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "not a tokenizer"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff"), "damaged"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, damage: Any, said: str) -> None:
    folder = write(tmp_path, byte_level(), CHATML)
    damage(folder)
    with pytest.raises(UserError) as error:
        foreign_dialog(folder)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# -- what loam's rules are broken


def words(folder: Path, **changes: Any) -> str:
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64} | changes))
    return "\n".join(broken_invariants(folder))


def test_a_model_that_keeps_all_rules_is_told_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, byte_level(), HEADERS, eos="<|eot_id|>")
    assert words(folder) == ""


def test_each_broken_rule_is_one_line_with_what_follows(tmp_path: Path) -> None:
    nfc = byte_level()
    nfc.normalizer = normalizers.NFC()
    assert "decomposed accents do not come back" in words(write(tmp_path / "nfc", nfc, HEADERS))
    word_level = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "What": 1, "is": 2, "<s>": 3, "</s>": 4}, "<unk>"))
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    assert "alphabet lacks bytes" in words(write(tmp_path / "words", word_level, None))
    assert "no bos" in words(write(tmp_path / "bos", byte_level(), CHATML, bos_token=None))
    assert "pad is its eos" in words(write(tmp_path / "pad", byte_level(), HEADERS, pad_token="</s>"))
    plain = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    with pytest.raises(UserError, match="could never end"):
        words(write(tmp_path / "eos", byte_level(), plain, eos=None))  # type: ignore[arg-type]
    assert "no context" in words(write(tmp_path / "context", byte_level(), HEADERS), max_position_embeddings=None)
    assert "only the last answer" in words(write(tmp_path / "thinking", byte_level(), THINKING))
    assert "only the last answer" not in words(write(tmp_path / "chatml", byte_level(), CHATML))
    dated = HEADERS + "{# #}{% set today = strftime_now('%d %b %Y') %}"
    assert "today's date" in words(write(tmp_path / "dated", byte_level(), dated))
    assert "begin without one" in words(write(tmp_path / "unused", without_processor(), CHATML))


def without_processor() -> tokenizers.Tokenizer:
    tok = pieces()
    tok.post_processor = tokenizers.processors.TemplateProcessing(single="$A")
    return tok


def test_the_jinja_that_transformers_knows(tmp_path: Path) -> None:
    template = (
        "{{ strftime_now('%Y') }}{{ {'a': '<é>'} | tojson }}{{ {'b': [1]} | tojson(indent=2) }}"
        "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
        "{% else %}{{ m.content + '|' }}{% endif %}{% endfor %}"
    )
    folder = write(tmp_path, byte_level(), template)
    dialog = foreign_dialog(folder)
    assert dialog.document([ASKED, SAID]).ids == theirs(folder, [ASKED, SAID], False)
    assert trained_texts(folder, [ASKED, SAID]) == ([SAID["content"]], ["</s>"])
    assert INST.count("raise_exception") == 1


def test_a_greeting_that_the_template_cannot_ask_for_is_read_and_not_trained(tmp_path: Path) -> None:
    dialog = foreign_dialog(write(tmp_path, byte_level(), CHATML, "<|im_end|>"))
    greeting = {"role": "assistant", "content": "Hello."}
    asked = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    row = dialog.document([greeting, *asked])
    trained = [token for token, mark in zip(row.ids, row.trained.tolist(), strict=True) if mark == 1]
    assert dialog.decode_bytes(trained) == b"So."
    assert b"Hello." in dialog.decode_bytes(row.ids)
    with pytest.raises(ValueError, match="does not render"):
        dialog.document([greeting])
