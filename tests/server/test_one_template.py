"""One conversation, rendered everywhere: a row of pretraining and of fine-tuning, the prompts of chat, server and
evaluation, `transformers`, and the template in a GGUF have the same ids, with one bos."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import tokenizers

import chat
from data.columns import Columns, Record
from data.sources import InputFile, SourceConfig
from data.writing import DOCUMENT_SCHEMA
from eval.questions import Question, prompt_ids
from export import Export, export
from server.bodies import read_chat
from server.service import Service
from tokenizer.chat_template import render_jinja
from tokenizer.dialog import Dialog
from tokenizer.encode import encode_table
from tokenizer.responses import Counts, response_tokens
from tokenizer.template import BOS, EOS, messages_of, render_messages

SYSTEM = "Kind answers,  é\u0301 and 你好\n"
TURNS = [("What is a qubit?", " A two-level system.\n"), ("And <b>two</b>?", "Four states 👩\u200d👧"), ("Why?", "So.")]
MESSAGES = [
    {"role": "system", "content": SYSTEM},
    *(
        {"role": role, "content": text}
        for turn in TURNS
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ),
]
ASKED = MESSAGES[:-1]


@pytest.fixture(scope="module")
def row() -> dict[str, Any]:
    """The conversation as the corpus has it, read as a file's record."""
    source = SourceConfig(name="talks", path="talks.jsonl", preset="chat")
    columns = Columns(InputFile("talks", Path("talks.jsonl"), None, "jsonl", "talks.jsonl"), source)
    (found,) = columns.rows(Record(":1", {"messages": MESSAGES}))
    assert found["reason"] is None
    return found


def table_of(row: dict[str, Any]) -> pa.Table:
    names = [name for name in DOCUMENT_SCHEMA.names if name != "n_bytes"]
    return pa.table({name: pa.array([row.get(name)], pa.string()) for name in names})


@pytest.fixture(scope="module")
def whole(dialog: Dialog) -> list[int]:
    """Ids of the conversation with its last answer, spelled out here from the template's words."""
    assert dialog.own is not None
    markers = {"system": 5, "user": 3, "assistant": 4}
    ids = [BOS]
    for message in MESSAGES:
        ids += [markers[message["role"]], *dialog.own.encode(message["content"])]
        ids += [EOS] if message["role"] == "assistant" else []
    return ids


@pytest.fixture(scope="module")
def prompt(whole: list[int], dialog: Dialog) -> list[int]:
    return whole[: -len(dialog.encode(TURNS[-1][1])) - 1]


def test_there_is_one_bos(whole: list[int], prompt: list[int]) -> None:
    assert whole.count(BOS) == prompt.count(BOS) == 1
    assert whole[0] == BOS


def test_a_row_of_pretraining(dialog: Dialog, row: dict[str, Any], whole: list[int]) -> None:
    assert dialog.own is not None
    assert encode_table(table_of(row), dialog.own).document(0).tolist() == whole


def test_a_row_of_fine_tuning(dialog: Dialog, row: dict[str, Any], whole: list[int]) -> None:
    tokens = response_tokens(table_of(row), dialog, 4096, Counts())
    assert tokens.document(0).tolist() == whole
    assert tokens.trained is not None
    said = [token for token, mark in zip(whole, tokens.trained.tolist(), strict=True) if mark == 1]
    assert said == [token for _, answer in TURNS for token in dialog.encode(answer)]


def test_a_sample_while_it_trains_and_a_question_of_evaluation(
    dialog: Dialog, row: dict[str, Any], prompt: list[int]
) -> None:
    assert dialog.prompt(messages_of({**row, "answer": None})) == prompt
    asked = Question("1", "talks", None, row["question"], row["context"], None, row["answer"])
    assert dialog.own is not None
    assert prompt_ids(dialog.own, asked) == prompt


def test_the_terminals_chat(dialog: Dialog, prompt: list[int], whole: list[int]) -> None:
    got, kept = chat.fitting_history(dialog, TURNS[:-1], TURNS[-1][0], 4096, 16, SYSTEM)
    assert got == prompt
    assert kept == TURNS[:-1]
    without, _ = chat.fitting_history(dialog, TURNS[:-1], TURNS[-1][0], 4096, 16)
    context = [5, *dialog.encode(SYSTEM)]
    assert without == [BOS, *prompt[1 + len(context) :]]


def test_the_server(dialog: Dialog, prompt: list[int]) -> None:
    body = json.dumps({"model": "a", "messages": ASKED}).encode()
    served: Any = SimpleNamespace(name="a", dialog=dialog, seq_len=4096)
    service: Any = SimpleNamespace()
    assert Service.prompts(service, served, read_chat(body)) == [prompt]


def test_transformers(checkpoint: Path, prompt: list[int], whole: list[int]) -> None:
    auto = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(checkpoint)
    assert auto.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=False) == prompt
    assert auto.apply_chat_template(MESSAGES, return_dict=False) == whole


def test_the_template_in_a_gguf(checkpoint: Path, tmp_path: Path, prompt: list[int], whole: list[int]) -> None:
    gguf = pytest.importorskip("gguf")
    export(checkpoint, Export(to="gguf", type="F32", out=str(tmp_path / "a.gguf")))
    field = gguf.GGUFReader(tmp_path / "a.gguf").get_field("tokenizer.chat_template")
    template = field.contents()
    plain = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    for messages, begins, ids in ((ASKED, True, prompt), (MESSAGES, False, whole)):
        text = render_jinja(
            template, messages=messages, add_generation_prompt=begins, bos_token="<|bos|>", eos_token="<|eos|>"
        )
        assert plain.encode(text, add_special_tokens=False).ids == ids


def test_the_template_itself(dialog: Dialog, prompt: list[int], whole: list[int]) -> None:
    assert dialog.own is not None
    assert render_messages(dialog.own, MESSAGES) == whole
    assert dialog.prompt(ASKED) == prompt
