"""eval/check.py: a sound checkpoint passes, and each planted fault fails its own line and no other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.files import file_sha256, read_json
from eval.check import check
from eval.soundness import OWN_FILES
from tests.eval.sound import copy_run, edit_json, edit_weights, line_of, make_sound_run, reseal, statuses
from tokenizer.template import CHAT_TEMPLATE

EMBEDDING = "model.embed_tokens.weight"
PROJECTION = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Path:
    return make_sound_run(tmp_path_factory.mktemp("check") / "runs" / "c", rows)


@pytest.fixture
def checkpoint(sound_run: Path, tmp_path: Path) -> Path:
    """ckpt3 of a copy of the run: to be damaged."""
    return copy_run(sound_run, tmp_path / "runs" / "c")


def state(folder: Path) -> dict[str, Any]:
    return {str(f): (file_sha256(f), f.stat().st_mtime_ns) for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_sound_checkpoint_passes_twice_alike_and_is_not_changed(sound_run: Path) -> None:
    before = state(sound_run)
    result = check(sound_run / "ckpt3")
    assert statuses(result, "fail") == []
    assert statuses(result, "warn") == []
    assert statuses(result, "skip") == []
    assert result["sound"] is True
    assert len(result["lines"]) == 20
    assert json.dumps(check(sound_run / "ckpt3")) == json.dumps(result)
    assert state(sound_run) == before


def test_the_figures_are_those_of_the_checkpoint(sound_run: Path) -> None:
    result = check(sound_run / "ckpt3")
    meta = read_json(sound_run / "ckpt3" / "loam.json")
    loss = line_of(result, "loss")["figures"]
    assert loss["tokens"] == meta["metrics"]["val_tokens"]  # so small a split is read whole: nothing is left to chance
    assert loss["standard_error"] == 0
    assert loss["loss"] == pytest.approx(meta["metrics"]["val_loss"], rel=1e-5)
    assert line_of(result, "vocabulary")["figures"] == {"tokenizer": 320, "embedding": 320}
    files = [file for file in (sound_run / "ckpt3").rglob("*") if file.is_file()]
    assert line_of(result, "size")["figures"]["bytes"] == sum(file.stat().st_size for file in files)
    assert line_of(result, "size")["figures"]["seq_len"] == 64
    assert line_of(result, "hashes")["figures"]["files"] == len(files) - 1
    assert line_of(result, "trained on")["figures"] == {"prompt_loss_weight": 1.0}


def test_quick_leaves_out_loss_and_answers_alone(sound_run: Path) -> None:
    result = check(sound_run / "ckpt3", quick=True)
    assert statuses(result, "skip") == ["loss", "answers", "stops", "markers", "parrots", "repeats"]
    assert result["sound"] is True


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_missing_file_fails_the_line_of_files_alone(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    result = check(checkpoint)
    assert statuses(result, "fail") == ["files"]
    assert name in line_of(result, "files")["found"]


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "loam.json"])
@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_json_file_that_is_none_fails_the_line_of_files_alone(checkpoint: Path, name: str, content: str) -> None:
    (checkpoint / name).write_text(content)
    if name != "loam.json":
        reseal(checkpoint)
    result = check(checkpoint)
    assert statuses(result, "fail") == ["files"]
    assert f"{name} is damaged" in line_of(result, "files")["found"]


@pytest.mark.parametrize("name", [name for name in OWN_FILES if name != "loam.json"])
def test_a_flipped_bit_fails_the_line_of_hashes(checkpoint: Path, name: str) -> None:
    content = bytearray((checkpoint / name).read_bytes())
    at = -4 if name.endswith("safetensors") else content.rindex(b"\n")  # a last digit; a line end
    content[at] = content[at] ^ 1 if name.endswith("safetensors") else ord(" ")
    (checkpoint / name).write_bytes(content)
    result = check(checkpoint)
    assert statuses(result, "fail") == ["hashes"]
    assert line_of(result, "hashes")["figures"]["changed"] == [name]


def test_a_changed_loam_json_fails_the_line_of_hashes(checkpoint: Path) -> None:
    edit_json(checkpoint / "loam.json", lambda meta: meta.update(step=7))
    result = check(checkpoint)
    assert statuses(result, "fail") == ["hashes"]
    assert "its own hash differs" in line_of(result, "hashes")["found"]


def test_files_of_trainer_may_all_be_gone_but_not_one(checkpoint: Path) -> None:
    (checkpoint / "trainer" / "state.json").unlink()
    assert statuses(check(checkpoint), "fail") == ["hashes"]
    shutil.rmtree(checkpoint / "trainer")
    assert statuses(check(checkpoint), "fail") == []


def fill(name: str, value: float, at: int | None = None) -> Callable[[dict[str, torch.Tensor]], object]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[name].view(-1)[slice(None) if at is None else slice(at, at + 1)] = value

    return change


def resize(rows: int) -> Callable[[dict[str, torch.Tensor]], object]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        old = weights[EMBEDDING]
        weights[EMBEDDING] = torch.cat([old, old[:8]])[: len(old) + rows]

    return change


WEIGHTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str, str]] = {
    "a NaN": (fill(PROJECTION, float("nan"), 5), "weights", f"{PROJECTION} holds 1 NaN of 2,048 numbers"),
    "a NaN in a norm": (fill("model.norm.weight", float("nan"), 0), "weights", "model.norm.weight holds 1 NaN of 32"),
    "an infinity": (fill(EMBEDDING, float("-inf"), 9), "weights", f"{EMBEDDING} holds 1 infinite of 10,240 numbers"),
    "zeros": (fill(PROJECTION, 0.0), "weights", f"{PROJECTION} is 0 everywhere"),
    "one number": (fill(PROJECTION, 0.5), "weights", f"{PROJECTION} is 0.5 everywhere"),
    "a missing tensor": (lambda w: w.pop(PROJECTION), "tensors", f"{PROJECTION} is missing"),
    "another tensor": (lambda w: w.update(more=torch.ones(2)), "tensors", "more is not asked for"),
    "a longer embedding": (resize(8), "tensors", f"{EMBEDDING} is (328, 32) where config.json asks for (320, 32)"),
    "a shorter embedding": (resize(-8), "tensors", f"{EMBEDDING} is (312, 32) where config.json asks for (320, 32)"),
    "no tensor": (lambda w: w.clear(), "tensors", "the weights hold no tensors"),
    "logits of zero": (fill("model.norm.weight", 0.0), "logits", "the same at each of 64 places"),
    "attention of nothing": (
        lambda w: [w[name].mul_(1e-30) for name in w if "o_proj" in name], "logits", "changes none behind it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHTS)
def test_a_fault_of_the_weights_fails_its_line_alone(checkpoint: Path, case: str) -> None:
    change, name, said = WEIGHTS[case]
    edit_weights(checkpoint, change)
    reseal(checkpoint)
    result = check(checkpoint)
    assert statuses(result, "fail") == [name]
    assert said in line_of(result, name)["found"]


def test_a_truncated_safetensors_fails_the_line_of_tensors_alone(checkpoint: Path) -> None:
    content = (checkpoint / "model.safetensors").read_bytes()
    for size in (len(content) - 1, len(content) // 2, 100, 4, 0):
        (checkpoint / "model.safetensors").write_bytes(content[:size])
        reseal(checkpoint)
        result = check(checkpoint)
        assert statuses(result, "fail") == ["tensors"]
        assert "model.safetensors is damaged" in line_of(result, "tensors")["found"]


@pytest.mark.parametrize(
    ("more", "said"), [(-8, "ids from 312 up have none"), (8, "320 tokens, the embedding 328 rows")]
)
def test_a_vocabulary_of_another_size_than_the_tokenizers_fails(checkpoint: Path, more: int, said: str) -> None:
    edit_weights(checkpoint, resize(more))
    edit_json(checkpoint / "config.json", lambda config: config.update(vocab_size=320 + more))
    reseal(checkpoint)
    result = check(checkpoint)
    assert statuses(result, "fail") == ["vocabulary"]
    assert said in line_of(result, "vocabulary")["found"]


def normalise(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = {"type": "NFC"}


def rename(tokenizer: dict[str, Any]) -> None:
    for token in tokenizer["added_tokens"]:
        token["content"] = token["content"].replace("<|assistant|>", "<|helper|>")
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["<|helper|>"] = vocabulary.pop("<|assistant|>")


JSON: dict[str, tuple[str, Callable[[dict[str, Any]], object], str, str]] = {
    "pad = eos": ("tokenizer_config.json", lambda c: c.update(pad_token="<|eos|>"), "special tokens", "pad = eos"),
    "another eos": ("config.json", lambda c: c.update(eos_token_id=3), "special tokens", "eos is 3 in config.json"),
    "no pad": ("config.json", lambda c: c.pop("pad_token_id"), "special tokens", "pad is None in config.json"),
    "an eos that is not": (
        "generation_config.json", lambda c: c.update(eos_token_id=1), "special tokens",
        "eos is 1 in generation_config.json and 2 in the tokenizer"),
    "a marker of another name": ("tokenizer.json", rename, "tokenizer", "its first tokens are not"),
    "a normaliser": ("tokenizer.json", normalise, "lossless", "of 21 odd strings do not come back"),
    "text as control": (
        "tokenizer.json",
        lambda c: c["added_tokens"][3].update(special=False),
        "tokenizer",
        "text that spells a special token becomes the token",
    ),
    "no template": ("tokenizer_config.json", lambda c: c.pop("chat_template"), "template", "no chat template"),
    "an edited template": (
        "tokenizer_config.json",
        lambda c: c.update(chat_template=CHAT_TEMPLATE.replace("'<|user|>' -}}", "'<|user|> ' -}}")),
        "template", "get other ids than training gave them"),
    "a template without its guard": (
        "tokenizer_config.json",
        lambda c: c.update(chat_template=CHAT_TEMPLATE.replace("in message['content']", "== 0")),
        "template", "it takes content that spells <|pad|> for the token"),
    "a template that is none": (
        "tokenizer_config.json", lambda c: c.update(chat_template="{{ messages[0"), "template", "does not render"),
    "a template that reaches out": (
        "tokenizer_config.json",
        lambda c: c.update(chat_template="{{ cycler.__init__.__globals__.os.system('true') }}"),
        "template", "does not render"),
    "more layers": ("config.json", lambda c: c.update(num_hidden_layers=3), "tensors", "model.layers.2."),
    "absurd layers": ("config.json", lambda c: c.update(num_hidden_layers=10**9), "tensors", "config.json asks for"),
    "a width": ("config.json", lambda c: c.update(hidden_size=48), "tensors", "where config.json asks for"),
    "another model": ("config.json", lambda c: c.update(model_type="mamba"), "tensors", "model of type 'mamba'"),
}  # fmt: skip


@pytest.mark.parametrize("case", JSON)
def test_a_fault_of_a_json_file_fails_its_line_alone(checkpoint: Path, case: str) -> None:
    file, change, name, said = JSON[case]
    edit_json(checkpoint / file, change)
    reseal(checkpoint)
    result = check(checkpoint)
    assert statuses(result, "fail") == [name]
    assert said in line_of(result, name)["found"]


def test_without_a_bos_the_template_gives_other_ids_too(checkpoint: Path) -> None:
    edit_json(checkpoint / "tokenizer_config.json", lambda config: config.pop("bos_token"))
    reseal(checkpoint)
    result = check(checkpoint)
    assert statuses(result, "fail") == ["special tokens", "template"]
    assert "bos is None" in line_of(result, "special tokens")["found"]


def test_a_template_that_differs_in_words_alone_warns(checkpoint: Path) -> None:
    file = checkpoint / "tokenizer_config.json"
    edit_json(file, lambda c: c.update(chat_template="{#- ours -#}" + CHAT_TEMPLATE))
    reseal(checkpoint)
    result = check(checkpoint)
    assert statuses(result, "fail") == []
    assert line_of(result, "template")["status"] == "warn"


def test_weights_of_another_checkpoint_fail_the_line_of_loss_alone(checkpoint: Path) -> None:
    shutil.copy(checkpoint.parent / "ckpt2" / "model.safetensors", checkpoint / "model.safetensors")
    reseal(checkpoint)
    result = check(checkpoint)
    assert statuses(result, "fail") == ["loss"]
    assert "take another checkpoint" in line_of(result, "loss")["todo"]


def test_without_its_corpus_a_checkpoint_is_judged_by_a_text_that_stands_here(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint.parent / "corpus")
    result = check(checkpoint)
    assert statuses(result, "fail") == []
    assert "its corpus is not here" in line_of(result, "loss")["found"]
    assert "What is water?" in line_of(result, "answers")["figures"]["asked"]


def test_without_a_stated_loss_it_is_compared_with_guessing(checkpoint: Path) -> None:
    edit_json(checkpoint / "loam.json", lambda meta: meta.pop("metrics"))
    reseal(checkpoint)
    line = line_of(check(checkpoint), "loss")
    assert line["status"] == "pass"
    assert "the validation split (loam.json states no loss)" in line["found"]
    shutil.copy(checkpoint.parent / "ckpt1" / "model.safetensors", checkpoint / "model.safetensors")  # two steps
    reseal(checkpoint)
    assert line_of(check(checkpoint), "loss")["status"] == "warn"


@pytest.mark.parametrize(("weight", "said"), [(0.0, "responses only"), (0.5, "weight 0.5"), (1.0, "all tokens")])
def test_what_the_training_loss_counted_is_said(checkpoint: Path, weight: float, said: str) -> None:
    edit_json(checkpoint / "loam.json", lambda meta: meta["config"]["train"].update(prompt_loss_weight=weight))
    reseal(checkpoint)
    result = check(checkpoint)
    assert line_of(result, "trained on")["status"] == "pass"
    assert said in line_of(result, "trained on")["found"]
    assert statuses(result, "fail") == []


def test_code_with_changes_that_no_commit_holds_warns(checkpoint: Path) -> None:
    for git, status in (("0123456789ab-dirty", "warn"), ("0123456789ab", "pass")):
        edit_json(checkpoint / "loam.json", lambda meta, git=git: meta.update(git=git))  # type: ignore[misc]
        reseal(checkpoint)
        assert line_of(check(checkpoint, quick=True), "made by")["status"] == status
