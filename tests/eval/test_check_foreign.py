"""eval/check.py on folders that loam did not make: small Qwen3, Llama and GPT-2 models, written by `transformers`."""

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from common.errors import UserError
from common.files import file_sha256, read_json
from eval.check import check
from eval.soundness_answers import BEGINNINGS, QUESTIONS, TEXT, nats_of
from eval.speaker import foreign_model, foreign_reader, foreign_speaker, quiet
from tests.eval.sound import edit_json, edit_weights, line_of, statuses

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
                         "intermediate_size": 64, "max_position_embeddings": 512}  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]


def make_tokenizer(template: str | None, **names: str | None) -> Any:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))  # fmt: skip
    bpe.train_from_iterator([TEXT, *QUESTIONS], trainer)
    tok = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, additional_special_tokens=SPECIAL, **names)
    tok.chat_template = template
    return tok


def learn(model: Any, tok: Any, steps: int = 200) -> None:
    """Enough of the text, in pieces that begin anywhere, and of short answers, to be far better than guessing."""
    ids = tok(TEXT, add_special_tokens=False)["input_ids"]
    rows = [ids[start : start + 48] for start in range(0, len(ids) - 48, 24)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        batch = torch.tensor(rows)
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """qwen3 with a chat template, llama without one and without pad, gpt2 with pad = eos and padded rows."""
    folder = tmp_path_factory.mktemp("foreign")
    torch.manual_seed(0)
    names = {"qwen3": {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"},
             "llama": {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"},
             "gpt2": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}}  # fmt: skip
    for name, tokens in names.items():
        tok = make_tokenizer(TEMPLATE if name == "qwen3" else None, **tokens)
        ids = {"eos_token_id": tok.eos_token_id, "bos_token_id": tok.bos_token_id, "pad_token_id": tok.pad_token_id}
        config: Any = {
            "qwen3": lambda ids=ids: transformers.Qwen3Config(vocab_size=400, head_dim=16, **SIZES, **ids),
            "llama": lambda ids=ids: transformers.LlamaConfig(vocab_size=400, **SIZES, **ids),
            "gpt2": lambda ids=ids: transformers.GPT2Config(
                vocab_size=416, n_embd=32, n_layer=2, n_head=2, n_positions=512, **ids
            ),
        }[name]()
        model = transformers.AutoModelForCausalLM.from_config(config)
        learn(model, tok)
        model.save_pretrained(folder / name)
        tok.save_pretrained(folder / name)
    return folder


@pytest.fixture
def planted(folders: Path, tmp_path: Path) -> Path:
    """A copy of qwen3: to be damaged."""
    shutil.copytree(folders / "qwen3", tmp_path / "qwen3")
    return tmp_path / "qwen3"


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_a_sound_folder_from_elsewhere_passes_and_is_not_changed(folders: Path, name: str) -> None:
    before = {file: (file_sha256(file), file.stat().st_mtime_ns) for file in sorted((folders / name).iterdir())}
    result = check(folders / name)
    assert statuses(result, "fail") == []
    assert result["kind"] == "other"
    assert statuses(result, "skip")[:3] == ["hashes", "made by", "trained on"]
    assert line_of(result, "tensors")["status"] == "pass"
    assert line_of(result, "loss")["status"] == "pass"
    asked = line_of(result, "answers")["figures"]["asked"]
    assert tuple(asked) == (QUESTIONS if name == "qwen3" else BEGINNINGS)
    assert line_of(result, "template")["status"] == ("pass" if name == "qwen3" else "skip")
    assert line_of(result, "control")["status"] == "warn"  # as everywhere in `transformers`, unless asked otherwise
    assert json.dumps(check(folders / name)) == json.dumps(result)
    assert {f: (file_sha256(f), f.stat().st_mtime_ns) for f in sorted((folders / name).iterdir())} == before


def test_the_habits_of_others_are_said(folders: Path) -> None:
    gpt2, llama = check(folders / "gpt2", quick=True), check(folders / "llama", quick=True)
    assert line_of(gpt2, "special tokens")["status"] == "warn"
    assert "pad = eos" in line_of(gpt2, "special tokens")["found"]
    assert "padded by 16" in line_of(gpt2, "vocabulary")["found"]
    assert line_of(gpt2, "size")["figures"]["seq_len"] == 512
    assert line_of(llama, "special tokens")["status"] == "pass"
    assert "no pad" in line_of(llama, "special tokens")["found"]


def test_answers_and_nats_are_those_of_one_prompt_at_a_time(folders: Path) -> None:
    """Against a plain loop without padding, mask or cache."""
    for name in ("qwen3", "llama", "gpt2"):
        reader = foreign_reader(folders / name)
        model, _ = foreign_model(folders / name, CPU, whole=True)
        speaker = foreign_speaker(model, reader, {}, CPU)
        prompts = [reader.encode(text) for text in ("The river rises in", "Water", "A number is even if it can be")]
        with torch.inference_mode():
            for prompt, answer in zip(prompts, speaker.answer(prompts, 12), strict=True):
                ids = list(prompt)
                while len(ids) < len(prompt) + 12 and ids[-1] not in speaker.eos:
                    ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
                assert answer.stopped == (ids[-1] in speaker.eos)
                assert answer.ids == ids[len(prompt) :][: -1 if answer.stopped else None]
            pieces = [torch.tensor(prompt).numpy() for prompt in prompts]
            for piece, nats in zip(prompts, nats_of(speaker, pieces), strict=False):
                logs = model(torch.tensor([piece])).logits[0].log_softmax(-1)
                plain = [-float(logs[i, piece[i + 1]]) for i in range(len(piece) - 1)]
                assert nats.tolist() == pytest.approx(plain, rel=1e-3, abs=1e-4)


EMBEDDING = "model.embed_tokens.weight"


def put(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda weights: weights[EMBEDDING].view(-1)[3:4].fill_(value)


WEIGHTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str, str]] = {
    "a NaN": (put(float("nan")), "weights", f"{EMBEDDING} holds 1 NaN"),
    "an infinity": (put(float("inf")), "weights", f"{EMBEDDING} holds 1 infinite"),
    "a missing tensor": (lambda w: w.pop("model.norm.weight"), "tensors", "model.norm.weight is missing"),
    "another tensor": (lambda w: w.update(more=torch.ones(2)), "tensors", "more is not asked for"),
    "a shorter embedding": (
        lambda w: w.update({EMBEDDING: w[EMBEDDING][:300].clone()}), "tensors",
        "is (300, 32) where config.json asks for (400, 32)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHTS)
def test_a_fault_of_the_weights_fails_its_line_alone(planted: Path, case: str) -> None:
    change, name, said = WEIGHTS[case]
    edit_weights(planted, change)
    result = check(planted)
    assert statuses(result, "fail") == [name]
    assert said in line_of(result, name)["found"]


CONFIGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no heads": ({"num_attention_heads": 0}, "tensors", "ZeroDivisionError"),
    "no key heads": ({"num_key_value_heads": 0}, "tensors", "ZeroDivisionError"),
    "heads of no width": ({"head_dim": 0}, "tensors", "ZeroDivisionError"),
    "a vocabulary that is no number": ({"vocab_size": "x"}, "tensors", "expected int, got str"),
    "an eos that is no number": ({"eos_token_id": "x"}, "tensors", "Field 'eos_token_id' with value 'x'"),
    "layers of no kind": ({"layer_types": ["a"]}, "tensors", "`layer_types` entries must be in"),
    "a pad outside": ({"pad_token_id": 99999}, "tensors", "Padding_idx must be within num_embeddings"),
    "layers that it cannot compute": ({"layer_types": ["linear_attention"] * 2}, "logits", "(KeyError)"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_nothing_can_be_made_of_fails_with_what_was_found(planted: Path, case: str) -> None:
    change, name, said = CONFIGS[case]
    edit_json(planted / "config.json", lambda config: config.update(change))
    result = check(planted)
    assert result["sound"] is False
    assert line_of(result, name)["status"] == "fail"
    assert said in line_of(result, name)["found"]
    assert [line["status"] for line in result["lines"][-7:]] == ["skip"] * 7


def test_memory_that_does_not_suffice_is_no_fault_and_ctrl_c_ends_it(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: BaseException) -> Callable[..., Any]:
        def raises(*_: Any, **__: Any) -> Any:
            raise error

        return raises

    monkeypatch.setattr("eval.check.foreign_model", fail(torch.OutOfMemoryError("all is taken")))
    result = check(planted)
    assert statuses(result, "fail") == []
    assert "all is taken" in line_of(result, "tensors")["found"]
    monkeypatch.setattr("eval.check.foreign_model", fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        check(planted)


def test_more_tokens_than_rows_fail(planted: Path) -> None:
    edit_weights(planted, lambda w: w.update({EMBEDDING: w[EMBEDDING][:300].clone(),
                                              "lm_head.weight": w["lm_head.weight"][:300].clone()}))  # fmt: skip
    edit_json(planted / "config.json", lambda config: config.update(vocab_size=300))
    result = check(planted)
    assert statuses(result, "fail") == ["vocabulary"]


def test_weights_in_several_files_are_read_and_a_missing_one_is_told(folders: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folders / "llama")
    shutil.copytree(folders / "llama", tmp_path / "llama", ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(tmp_path / "llama", max_shard_size="60KB")
    shards = sorted((tmp_path / "llama").glob("model-*.safetensors"))
    assert len(shards) > 1
    whole, parts = check(folders / "llama"), check(tmp_path / "llama")
    assert statuses(parts, "fail") == []
    for name in ("tensors", "weights", "logits", "loss"):
        assert line_of(parts, name) == line_of(whole, name)
    shards[-1].unlink()
    result = check(tmp_path / "llama", quick=True)
    assert statuses(result, "fail") == ["files"]
    assert shards[-1].name in line_of(result, "files")["found"]


def test_pickled_weights_are_not_loaded(planted: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, Any]:
            return (Path.touch, (tmp_path / "was-run",))

    torch.save({"weight": Hostile()}, planted / "pytorch_model.bin")
    both = check(planted, quick=True)
    assert line_of(both, "files")["status"] == "warn"
    assert statuses(both, "fail") == []
    (planted / "model.safetensors").unlink()
    alone = check(planted)
    assert statuses(alone, "fail") == ["files"]
    assert "pickled (pytorch_model.bin) and not loaded" in line_of(alone, "files")["found"]
    assert not (tmp_path / "was-run").exists()


def test_code_of_the_folder_is_not_run(planted: Path, tmp_path: Path) -> None:
    (planted / "own.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\nclass C: pass\n")
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.C"}}
    edit_json(planted / "config.json", lambda config: config.update(own))
    result = check(planted)
    assert "code of its own (auto_map), which is not run" in line_of(result, "tensors")["found"]
    assert result["sound"] is False
    assert not (tmp_path / "was-run").exists()


TEMPLATES = {
    "{{ raise_exception('no') }}": ("fail", "does not render: no"),
    "{{ messages[0": ("fail", "does not render"),
    "<|im_start|>assistant\n": ("fail", "does not hold the question"),
    TEMPLATE.replace("<|im_end|>", "<|pad|>"): ("warn", "no token that ends generation"),
    TEMPLATE.replace("assistant\n{% endif", "helper\n{% endif"): ("warn", "does not end where an answer begins"),
    TEMPLATE: ("pass", "ends where the answer begins"),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_is_judged_by_what_it_renders(planted: Path, template: str) -> None:
    status, said = TEMPLATES[template]
    jinja = planted / "chat_template.jinja"
    assert jinja.exists()
    jinja.write_text(template)
    result = check(planted, quick=True)
    assert line_of(result, "template")["status"] == status
    assert said in line_of(result, "template")["found"]
    assert statuses(result, "fail") == (["template"] if status == "fail" else [])


def test_an_eos_that_generation_does_not_know_warns(planted: Path) -> None:
    edit_json(planted / "generation_config.json", lambda config: config.update(eos_token_id=0))
    result = check(planted, quick=True)
    assert line_of(result, "special tokens")["status"] == "warn"
    assert "eos is 0 in generation_config.json and 2 in the tokenizer" in line_of(result, "special tokens")["found"]
    edit_json(planted / "generation_config.json", lambda config: config.update(eos_token_id=[0, 2]))
    assert line_of(check(planted, quick=True), "special tokens")["status"] == "pass"


def test_a_tokenizer_that_is_none_fails_and_the_weights_are_looked_at(planted: Path) -> None:
    (planted / "tokenizer.json").write_text("{}")
    result = check(planted)
    assert statuses(result, "fail") == ["tokenizer"]
    assert line_of(result, "weights")["status"] == "pass"


def test_without_transformers_a_folder_from_elsewhere_is_one_clear_line(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"not made by loam.* pip install -e '\.\[eval\]'") as told:
        check(planted)
    assert "\n" not in str(told.value)


def test_an_untrained_model_is_told(planted: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(planted))
    model.save_pretrained(planted)
    result = check(planted)
    assert line_of(result, "weights")["status"] == "warn"
    assert line_of(result, "loss")["status"] == "warn"
    assert result["lines"][4]["name"] == "tensors"
    assert line_of(result, "tensors")["status"] == "pass"


def test_logging_of_others_is_put_back() -> None:
    before = logging.root.manager.disable
    with quiet():
        assert logging.root.manager.disable == logging.CRITICAL
    assert logging.root.manager.disable == before


def test_stored_types_are_told(planted: Path) -> None:
    file = planted / "model.safetensors"
    save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    line = line_of(check(planted, quick=True), "size")
    assert line["status"] == "warn"
    assert "parameters as BF16" in line["found"]
    edit_json(planted / "config.json", lambda config: config.update(dtype="bfloat16"))
    assert line_of(check(planted, quick=True), "size")["status"] == "pass"
    assert read_json(planted / "config.json")["dtype"] == "bfloat16"
