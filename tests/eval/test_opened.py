"""Others' checkpoints in comparisons: a checkpoint of loam's that is opened as another's gives the same losses and
answers, whatever the batch."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[eval]'")

from common.errors import UserError
from common.files import file_sha256, read_json, write_json
from eval import compare as compare_script
from eval.compare import compare
from eval.config import EvalConfig
from eval.losses import PASS_TOKENS
from eval.opened import Opened, open_foreign, open_own
from eval.questions import Question, question_of
from eval.speaker import foreign_reader
from eval.subjects import find_subjects
from eval.verdict import print_result
from tokenizer.encode import FIELDS
from tokenizer.template import IN_ANSWER, IN_QUESTION, IN_TEXT

from .conftest import SEQ_LEN, make_rows, make_table

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def foreign(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ckpt2 of the run without what makes it loam's."""
    folder = tmp_path_factory.mktemp("others") / "qwen"
    shutil.copytree(run / "ckpt2", folder)
    (folder / "loam.json").unlink()
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    return folder


@pytest.fixture(scope="module")
def opened(run: Path, foreign: Path) -> tuple[Opened, Opened]:
    return open_own(run / "ckpt2", CPU, True, None), open_foreign(foreign, CPU)


@pytest.mark.parametrize("where", ["eval.subjects.foreign_reader", "eval.opened.foreign_model"])
def test_an_error_without_a_message_is_one_line(
    run: Path, foreign: Path, quick: EvalConfig, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(where, fail)
    with pytest.raises(UserError, match=r"transformers cannot open it.*: AssertionError$"):
        compare([run / "ckpt1", foreign], quick)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no such role') }}", "no such role"),
        ("{% for m in messages %}{{ m.content }}", "Unexpected end of template"),
        ("{% if false %}{% endif %}", "it gives no tokens"),
    ],
)
def test_a_chat_template_that_cannot_ask_is_said_before_any_work(
    run: Path,
    foreign: Path,
    quick: EvalConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    said: str,
) -> None:
    shutil.copytree(foreign, tmp_path / "qwen")
    config = tmp_path / "qwen" / "tokenizer_config.json"
    write_json(config, {**read_json(config), "chat_template": template})
    monkeypatch.setattr(compare_script, "evaluate", lambda *_: pytest.fail("losses were computed"))
    with pytest.raises(UserError, match=f"its chat template does not render a question: .*{said}") as error:
        compare([run / "ckpt1", tmp_path / "qwen"], quick)
    assert "\n" not in str(error.value)
    assert len(find_subjects([run / "ckpt1", tmp_path / "qwen"], asked=False)) == 2  # for losses it is not needed


def texts(lengths: list[int]) -> list[dict[str, Any]]:
    row = {**make_rows(1, seed=7)[0]}
    return [{**row, "id": f"t{i}", "text": "Ä " + "stone cat " * length} for i, length in enumerate(lengths)]


def test_losses_of_texts_are_those_of_the_same_checkpoint_as_loams(opened: tuple[Opened, Opened]) -> None:
    table = make_table([*texts([1, 3, 7, 12]), *[row for row in make_rows(40, seed=8) if row["kind"] == "text"][:6]])
    own, others = (one.losses(table) for one in opened)
    whole = own.num_targets[:, IN_TEXT] < SEQ_LEN  # what is cut is cut elsewhere
    assert whole.sum() >= 5
    np.testing.assert_allclose(others.nats[whole, IN_TEXT], own.nats[whole, IN_TEXT], rtol=1e-4)
    np.testing.assert_array_equal(others.num_targets[:, IN_TEXT], own.num_targets[:, IN_TEXT])
    np.testing.assert_array_equal(others.num_bytes, own.num_bytes)


def test_each_token_is_a_target_once_however_long_the_document_and_whatever_the_batch(
    opened: tuple[Opened, Opened], foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table([*texts([400, 2, 90]), *make_rows(12, seed=9)])
    _, others = opened
    first = others.losses(table)
    encode = foreign_reader(foreign).encode
    fields = [[row[name] for name in FIELDS if row[name] is not None] for row in table.to_pylist()]
    tokens = [sum(len(encode(field)) for field in of) + (len(of) - 1) * len(encode("\n")) for of in fields]
    assert first.num_targets.sum(axis=1).tolist() == tokens
    assert first.num_targets[0].sum() > 5 * SEQ_LEN
    monkeypatch.setitem(PASS_TOKENS, "cpu", 1)
    again = others.losses(table)
    np.testing.assert_allclose(again.nats, first.nats, rtol=3e-5)
    order = [5, 1, 0, 9]
    np.testing.assert_allclose(others.losses(table.take(order)).nats, first.nats[order], rtol=3e-5)


def test_parts_of_a_question_are_told_apart(opened: tuple[Opened, Opened]) -> None:
    rows = [row for row in make_rows(20, seed=10) if row["kind"] == "qa"]
    found = opened[1].losses(make_table(rows))
    for part, name in ((IN_QUESTION, "question"), (IN_ANSWER, "answer")):
        assert found.num_bytes[:, part].tolist() == [len(row[name].encode()) for row in rows]
        assert (found.num_targets[:, part] > 0).all()
        assert (found.nats[:, part] > 0).all()


def test_answers_by_the_chat_template_are_loams_own(opened: tuple[Opened, Opened]) -> None:
    rows = [row for row in make_rows(30, seed=11) if row["kind"] == "qa" and row["context"] is None]
    questions = [question for row in rows if (question := question_of(row)) is not None]
    own, others = (one.answer(questions, 10) for one in opened)
    assert others == own
    assert len({said["text"] for said in own}) > 1
    assert opened[1].answer(questions[::-1], 10)[::-1] == others
    long = Question("x", "s", None, "stone " * 200, None, None, "")
    assert opened[1].answer([long], 10) == [{"text": "", "stopped": False, "tokens": 0}]


def test_samples_are_loams_own_for_the_same_seeds_whatever_the_batch(opened: tuple[Opened, Opened]) -> None:
    rows = [row for row in make_rows(40, seed=12) if row["kind"] == "qa" and row["context"] is None]
    questions = [question for row in rows if (question := question_of(row)) is not None]
    sampling = {"temperature": 0.9, "top_p": 0.9}
    seeds = [*range(len(questions))]
    own, others = (one.answer(questions, 10, **sampling, seeds=seeds) for one in opened)
    assert others == own
    assert others != opened[1].answer(questions, 10)
    assert others != opened[1].answer(questions, 10, **sampling, seeds=[seed + 1 for seed in seeds])
    alone = [opened[1].answer([question], 10, **sampling, seeds=[i]) for i, question in enumerate(questions)]
    assert [said for [said] in alone] == others


def test_a_comparison_of_loams_with_anothers(run: Path, foreign: Path, quick: EvalConfig) -> None:
    before = {path: file_sha256(path) for path in sorted(foreign.rglob("*")) if path.is_file()}
    result = compare([run / "ckpt1", foreign], replace(quick, samples=1))
    own, others = result["checkpoints"]
    assert others["name"] == "others0/qwen" or others["name"].endswith("/qwen")
    assert (others["epoch"], others["train_bpb"], others["contaminated_documents"]) == (None, None, None)
    assert others["num_bytes"] == own["num_bytes"]
    assert others["bpb_text"] < own["bpb_text"]
    assert any("is not on this machine" in note for note in result["notes"])
    assert [len(said["samples"]) for said in result["answers"][0]["answers"]] == [1, 1]
    assert all(of["bpb"][1] is None for of in result["breakdown"]["position"])
    assert result["perplexity_comparable"]  # one tokenizer.json
    print_result(result, lambda line: None)
    assert {path: file_sha256(path) for path in sorted(foreign.rglob("*")) if path.is_file()} == before


def test_what_transformers_cannot_open_is_one_line(foreign: Path, run: Path, tmp_path: Path, quick: EvalConfig) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(foreign, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"broken has no loam\.json, and transformers cannot open it: "):
        compare([run / "ckpt1", broken], quick)
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"broken has no loam\.json, and transformers cannot open its tokenizer: "):
        compare([run / "ckpt1", broken], quick)
    (broken / "config.json").unlink()
    with pytest.raises(UserError, match="broken"):
        compare([run / "ckpt1", broken], quick)
