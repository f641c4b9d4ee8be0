"""What export.py writes is the checkpoint in another form: tensor by tensor, token by token, and to llama.cpp."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import jinja2
import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

from bench.gguf_precision import FACTOR, ask, divergence, gap, logits_of, noisy
from common.errors import UserError
from common.files import file_sha256, read_json, write_json
from export import Export, export
from model.config import RopeScaling, Shape
from model.decoder import Decoder
from model.generate import generate
from model.huggingface import load_model
from tests.go_template import render_go
from tests.made import save_checkpoint
from tests.tokenizer.conftest import TEXTS
from tokenizer.bpe import train_tokenizer
from tokenizer.config import TokenizerConfig
from tokenizer.dialog import open_dialog
from tokenizer.spm import schema
from tokenizer.template import BOS, CHAT_TEMPLATE, EOS, SPECIAL_TOKENS, render_prompt
from training.checkpoint import load_for_inference, sealed, verify

ROOT = Path(__file__).resolve().parents[1]
SHAPE = Shape(
    vocab_size=360,
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    seq_len=128,
)
STRETCHED = RopeScaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_seq_len=64)
STRETCHED_THETA = SHAPE.rope_theta
QUESTION = "What is the\nGröße of  你好, 1234? "
CHAT = [
    {"role": "system", "content": "Answer  briefly.\n"},
    {"role": "user", "content": "Who jumps over the lazy dog?"},
    {"role": "assistant", "content": "The quick brown fox."},
    {"role": "user", "content": QUESTION},
]


def make_checkpoint(
    folder: Path, backend: str = "tokenizers", pattern: str = "qwen2", file: str | None = None, **changes: Any
) -> Path:
    """A checkpoint of random weights, norms too: a tensor under the wrong name shows."""
    config = TokenizerConfig(vocab_size=360, backend=backend, pattern=pattern)  # type: ignore[arg-type]
    config = config if file is None else TokenizerConfig(file=file)
    changes["vocab_size"] = train_tokenizer(iter(TEXTS), 10_000, config, folder / "tokenizer").vocab_size
    torch.manual_seed(0)
    model = Decoder(replace(SHAPE, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    provenance = {"run": "a", "epoch": 1, "step": 7, "corpus": "of-a", "metrics": {"val_bpb": 1.5}}
    save_checkpoint(folder / "ckpt1", model, [], folder / "tokenizer", {"step": 7}, provenance)
    return folder / "ckpt1"


@pytest.fixture(scope="module", params=["tokenizers", "sentencepiece"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("run"), backend)


def write(checkpoint: Path, **flags: Any) -> Path:
    """What export.py writes for these flags."""
    return export(checkpoint, Export(**flags)).path


def read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, Any]]:
    """Dequantised tensors, their types and the metadata of a GGUF."""
    reader = gguf.GGUFReader(file)
    tensors = {each.name: each for each in reader.tensors}
    numbers = {
        name: gguf.quants.dequantize(each.data, each.tensor_type).reshape(tuple(reversed(each.shape.tolist())))
        for name, each in tensors.items()
    }
    types = {name: each.tensor_type.name for name, each in tensors.items()}
    return numbers, types, {key: field.contents() for key, field in reader.fields.items()}


def expected(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The checkpoint's weights under the names that gguf's own tables give them."""
    kind = {"qwen3": gguf.MODEL_ARCH.QWEN3, "llama": gguf.MODEL_ARCH.LLAMA}
    table = gguf.get_tensor_name_map(kind[read_json(checkpoint / "config.json")["model_type"]], SHAPE.num_layers)
    weights = load_file(checkpoint / "model.safetensors")
    return {f"{table.get_name(name.removesuffix('.weight'))}.weight": weight for name, weight in weights.items()}


@pytest.mark.parametrize("tie", [True, False])
def test_f32_is_the_checkpoint_bit_for_bit_under_the_names_of_llama_cpp(tmp_path: Path, tie: bool) -> None:
    path = make_checkpoint(tmp_path, tie_embeddings=tie)
    before = {file: file_sha256(file) for file in path.rglob("*") if file.is_file()}
    tensors, types, _ = read(write(path, to="gguf", type="F32"))
    ours = expected(path)
    assert tensors.keys() == ours.keys()
    assert ("output.weight" in tensors) == (not tie)
    assert all(np.array_equal(tensors[name], ours[name].numpy()) for name in ours)
    assert set(types.values()) == {"F32"}
    assert {file: file_sha256(file) for file in path.rglob("*") if file.is_file()} == before


def test_of_llama_a_head_s_pairs_are_neighbours_and_stretched_positions_come_along(tmp_path: Path) -> None:
    """transformers' own inverse frequencies are the reference; row i and row i + 8 of a head of 16 are a pair there."""
    from transformers import AutoModelForCausalLM

    path = make_checkpoint(tmp_path, qk_norm=False, rope_scaling=STRETCHED)
    tensors, types, about = read(write(path, to="gguf", type="F32"))
    assert about["general.architecture"] == "llama"
    ours = expected(path)
    turned = {f"blk.{i}.attn_{x}.weight" for i in range(2) for x in "qk"}
    assert tensors.keys() == {*ours, "rope_freqs.weight"}
    for name in ours:
        weight = ours[name].numpy()
        if name in turned:
            assert not np.array_equal(tensors[name], weight)
            heads = weight.reshape(-1, 16, 64)
            weight = np.stack([heads[:, :8], heads[:, 8:]], axis=2).reshape(weight.shape)
        assert np.array_equal(tensors[name], weight), name
    theirs = AutoModelForCausalLM.from_pretrained(path).model.rotary_emb.inv_freq.numpy()
    plain = STRETCHED_THETA ** (-np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(plain / tensors["rope_freqs.weight"], theirs, rtol=1e-5)
    assert types["rope_freqs.weight"] == "F32"
    assert tensors["rope_freqs.weight"].max() == STRETCHED.factor


def test_f16_and_bf16_are_the_nearest_numbers_and_norms_stay_whole(checkpoint: Path, tmp_path: Path) -> None:
    for kind, dtype in (("F16", torch.float16), ("BF16", torch.bfloat16)):
        tensors, types, about = read(write(checkpoint, to="gguf", type=kind, out=str(tmp_path / kind)))
        for name, weight in expected(checkpoint).items():
            norm = weight.ndim == 1
            assert types[name] == ("F32" if norm else kind)
            assert np.array_equal(tensors[name], (weight if norm else weight.to(dtype).float()).numpy()), name
        assert about["general.file_type"] == gguf.LlamaFileType[f"MOSTLY_{kind}"]


def test_q8_0_is_within_its_step(checkpoint: Path, tmp_path: Path) -> None:
    """Half a step for the whole numbers, and for the scale, an F16, 2**-11 of at most 127 steps."""
    tensors, types, about = read(write(checkpoint, to="gguf", type="q8_0", out=str(tmp_path / "q")))
    for name, weight in expected(checkpoint).items():
        if weight.ndim == 1:
            assert np.array_equal(tensors[name], weight.numpy())
            continue
        assert types[name] == "Q8_0"
        blocks = weight.numpy().reshape(-1, 32)
        steps = np.abs(blocks).max(axis=1, keepdims=True) / 127
        off = np.abs(tensors[name].reshape(-1, 32) - blocks) / steps
        assert off.max() <= 0.5 + 127 * 2**-11
        assert off.max() > 0.4  # it is rounded, and no finer
    assert about["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0


def test_rows_that_make_no_blocks_are_f16_and_it_is_said(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, intermediate_size=72)
    written = export(path, Export(to="gguf", type="Q8_0"))
    _, types, _ = read(written.path)
    assert {name for name, kind in types.items() if kind == "F16"} == {f"blk.{i}.ffn_down.weight" for i in range(2)}
    assert [line for line in written.lines if "note" in line] == [
        "note: rows of 72 numbers make no blocks of 32: those matrices are F16"
    ]
    size = written.path.stat().st_size / 1e6
    assert written.lines[-2:] == [f"wrote  {written.path} ({size:,.1f} MB)",
                                  f"next:  llama-server -m {written.path} --jinja"]  # fmt: skip


def test_text_at_which_llama_cpp_ends_an_answer_is_named(tmp_path: Path) -> None:
    """Training makes no such tokens; a tokenizer that is brought may have them."""
    train_tokenizer(iter(TEXTS), 10_000, TokenizerConfig(vocab_size=360, backend="sentencepiece"), tmp_path / "t")
    model = schema.ModelProto.FromString((tmp_path / "t" / "tokenizer.model").read_bytes())
    for piece in ("s>", "</s>"):
        model.pieces.add(piece=piece, score=-10_000, type=schema.ModelProto.SentencePiece.NORMAL)
    (tmp_path / "other.model").write_bytes(model.SerializeToString())
    path = make_checkpoint(tmp_path, file=str(tmp_path / "other.model"))
    lines = export(path, Export(to="gguf")).lines
    assert "note: llama.cpp ends an answer at </s>, which this vocabulary has as text" in lines


def test_the_file_says_what_the_checkpoint_says(checkpoint: Path, tmp_path: Path) -> None:
    _, _, about = read(write(checkpoint, to="gguf", out=str(tmp_path / "x.gguf")))
    assert about["general.architecture"] == "qwen3"
    assert (about["general.name"], about["general.file_type"]) == ("a-ckpt1", gguf.LlamaFileType.MOSTLY_F16)
    assert verify(checkpoint)["seal"] in about["general.description"]
    config = read_json(checkpoint / "config.json")
    same = {
        "block_count": "num_hidden_layers",
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.key_length": "head_dim",
        "attention.value_length": "head_dim",
        "vocab_size": "vocab_size",
    }
    for theirs, ours in same.items():
        assert about[f"qwen3.{theirs}"] == config[ours], theirs
    assert about["qwen3.rope.freq_base"] == config["rope_theta"]
    assert about["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"], rel=1e-6)


def test_tokens_kinds_and_special_ids(checkpoint: Path, backend: str, tmp_path: Path) -> None:
    _, _, about = read(write(checkpoint, to="gguf", out=str(tmp_path / "x.gguf")))
    about = {key.removeprefix("tokenizer.ggml."): value for key, value in about.items()}
    file = json.loads((checkpoint / "tokenizer.json").read_text())
    by_id = {i: token for token, i in file["model"]["vocab"].items()}
    tokens = [by_id[i] for i in range(SHAPE.vocab_size)]
    assert (about["bos_token_id"], about["eos_token_id"], about["padding_token_id"]) == (1, 2, 0)
    assert (about["add_bos_token"], about["add_eos_token"], about["add_space_prefix"]) == (True, False, False)
    kinds = about["token_type"]
    if backend == "sentencepiece":
        assert about["model"] == "llama"
        assert about["tokens"] == [token.replace(" ", "\u2581") for token in tokens]
        assert kinds[:6] == [2, 3, 3, 3, 3, 3]
        assert kinds[6:262] == [6] * 256
        assert set(kinds[262:]) == {1}
        assert about["scores"][262:] == sorted(about["scores"][262:], reverse=True)
    else:
        assert (about["model"], about["pre"]) == ("gpt2", "qwen2")
        assert about["tokens"] == tokens
        assert kinds == [3] * 6 + [1] * (SHAPE.vocab_size - 6)
        assert about["merges"] == [" ".join(pair) for pair in file["model"]["merges"]]


def test_the_template_of_the_file_gives_the_ids_of_ours(checkpoint: Path, tmp_path: Path) -> None:
    """Rendered by jinja and read with special tokens on, as engines do: one bos."""
    _, _, about = read(write(checkpoint, to="gguf", out=str(tmp_path / "x.gguf")))
    assert about["tokenizer.chat_template"] == CHAT_TEMPLATE
    bos, eos = (about["tokenizer.ggml.tokens"][about[f"tokenizer.ggml.{name}_token_id"]] for name in ("bos", "eos"))
    template = jinja2.Environment().from_string(about["tokenizer.chat_template"])
    text = template.render(messages=CHAT, bos_token=bos, eos_token=eos, add_generation_prompt=True)
    ids = with_specials(checkpoint, text)
    assert ids == our_prompt(checkpoint)
    assert ids.count(BOS) == 1


def with_specials(checkpoint: Path, text: str) -> list[int]:
    """Ids of a text in which special tokens are special."""
    return tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(text, add_special_tokens=False).ids


def our_prompt(checkpoint: Path) -> list[int]:
    return open_dialog(checkpoint).prompt(CHAT)


# -- Ollama


def test_the_modelfile_says_the_one_template_without_the_bos_that_ollama_adds(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    folder = write(path, to="ollama", type="Q8_0")
    assert folder.name == "ckpt1-q8_0-ollama"
    assert sorted(file.name for file in folder.iterdir()) == ["Modelfile", "model.gguf"]
    text = (folder / "Modelfile").read_text()
    template = re.search(r'^TEMPLATE """(.*)"""$', text, re.MULTILINE)
    assert template
    rendered = render_go(template[1], {"Messages": [{key.title(): value for key, value in m.items()} for m in CHAT]})
    assert [BOS, *with_specials(path, rendered)] == our_prompt(path)
    assert read(folder / "model.gguf")[2]["tokenizer.ggml.add_bos_token"] is True
    assert text.startswith("FROM ./model.gguf\n")
    assert "PARAMETER num_ctx 128\n" in text
    assert all(f'PARAMETER stop "{token}"\n' in text for token in SPECIAL_TOKENS)


@pytest.mark.parametrize(
    ("made", "said"), [({"backend": "sentencepiece"}, "sentencepiece's"), ({"pattern": "gpt2"}, "pattern gpt2's")]
)
def test_ollama_is_refused_where_it_would_give_other_ids(tmp_path: Path, made: dict[str, Any], said: str) -> None:
    path = make_checkpoint(tmp_path, **made)
    with pytest.raises(UserError, match=said):
        write(path, to="ollama")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ckpt1", "tokenizer"]


# -- a transformers folder


@pytest.mark.parametrize(("dtype", "kind"), [("bf16", torch.bfloat16), ("F16", torch.float16)])
def test_a_folder_of_half_the_size_opens_everywhere_and_says_what_it_is(
    checkpoint: Path, tmp_path: Path, dtype: str, kind: torch.dtype
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = write(checkpoint, dtype=dtype, out=str(tmp_path / "half"))
    theirs, ours = (load_file(folder / "model.safetensors") for folder in (out, checkpoint))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name].to(kind)) for name in ours)
    model, _, meta = load_for_inference(out)  # verifies hashes and seal
    assert {weight.dtype for weight in model.parameters()} == {kind}
    origin = verify(checkpoint)
    assert sealed(meta)["seal"] == meta["seal"] != origin["seal"]
    assert meta["dtype"] == str(kind).removeprefix("torch.")
    weights = origin["files"]["model.safetensors"]
    made_from = {"checkpoint": "ckpt1", "seal": origin["seal"], "weights": weights, "dtype": "float32"}
    assert meta["made_from"] == made_from | {"metrics": {"val_bpb": 1.5}}
    assert "metrics" not in meta  # they were measured with other weights
    assert meta["step"] == 7
    assert not (out / "trainer").exists()
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype="auto").eval()
    assert loaded.dtype == kind
    ids = our_prompt(checkpoint)
    rendered: Any = AutoTokenizer.from_pretrained(out).apply_chat_template(CHAT, add_generation_prompt=True)
    assert list(rendered["input_ids"]) == ids == our_prompt(out)
    with torch.no_grad():
        others = [noisy(checkpoint, dtype.upper(), seed, norms=True) for seed in range(3)]
        allowed = max(distance(checkpoint, other, ids) for other in others)
        assert 0 < distance(checkpoint, load_model(out, dtype=torch.float32), ids) < allowed
        # Computed in that type, too, each operation rounds its result: 20 a layer, where weights are 4 in a row.
        assert distance(checkpoint, model, ids) < 4 * allowed
        assert distance(checkpoint, lambda ids: loaded(ids).logits, ids) < 4 * allowed


def distance(checkpoint: Path, other: Any, ids: list[int]) -> float:
    """Root mean square of how far another model's logits (a decoder, or a function of ids) are from a checkpoint's."""
    exact, given = load_model(checkpoint), torch.tensor([ids])
    found = other.logits(other(given)) if isinstance(other, Decoder) else other(given)
    return float((found.float() - exact.logits(exact(given))).pow(2).mean().sqrt())


# -- refusals


def change_weights(path: Path, name: str, value: float) -> None:
    """Another number in model.safetensors, and a loam.json that vouches for it."""
    weights = load_file(path / "model.safetensors")
    weights[name].view(-1)[5] = value
    save_file(weights, path / "model.safetensors")
    meta = read_json(path / "loam.json")
    meta["files"]["model.safetensors"] = file_sha256(path / "model.safetensors")
    write_json(path / "loam.json", sealed(meta))


LAST = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize("value", [1e5, float("nan"), float("inf")])
def test_weights_that_a_type_cannot_hold_leave_no_file_behind(tmp_path: Path, value: float) -> None:
    path = make_checkpoint(tmp_path)
    change_weights(path, LAST, value)
    before = sorted(tmp_path.rglob("*"))
    for wanted in (Export(to="gguf", type="F16"), Export(to="ollama", type="F16"), Export(dtype="f16")):
        with pytest.raises(UserError, match=r"layers\.1\.mlp\.down_proj\.weight holds .*F16 holds is 65504"):
            export(path, wanted)
        assert sorted(tmp_path.rglob("*")) == before
    if value == 1e5:
        write(path, to="gguf", type="BF16")
        write(path, to="gguf", type="Q8_0")


def test_nothing_is_overwritten_and_the_checkpoint_gets_no_new_file(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    for wanted in (Export(to="gguf"), Export(to="ollama"), Export(dtype="bf16")):
        out = export(path, wanted).path
        before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
        with (
            patch("export.verify", side_effect=AssertionError("it is said before any work")),
            pytest.raises(UserError, match=f"{out.name} exists, and nothing is overwritten"),
        ):
            export(path, wanted)
        with pytest.raises(UserError, match="is inside the checkpoint"):
            export(path, replace(wanted, out=str(path / "x")))
        assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_file_that_comes_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    from export import write_gguf

    def slow(*args: Any) -> None:
        write_gguf(*args)
        (tmp_path / "x").write_text("another's")

    with patch("export.write_gguf", slow), pytest.raises(UserError, match="x exists"):
        write(path, to="gguf", out=str(tmp_path / "x"))
    assert (tmp_path / "x").read_text() == "another's"
    assert not list(tmp_path.glob(".*"))


def test_a_missing_package_anothers_template_and_damage_are_one_line(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path)
    with patch.dict(sys.modules, {"gguf": None}), pytest.raises(UserError, match=r"pip install -e '\.\[export\]'"):
        write(path, to="gguf")
    with pytest.raises(UserError, match="cannot be written"):
        write(path, to="gguf", out=str(tmp_path / "tokenizer" / "tokenizer.json" / "x"))
    meta = read_json(path / "loam.json")
    write_json(path / "loam.json", sealed({**meta, "dialog": "another's"}))
    for form in ("gguf", "ollama"):
        with pytest.raises(UserError, match=r"were made elsewhere.*convert_hf_to_gguf\.py"):
            export(path, Export(to=form))
    with (path / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    for wanted in (Export(to="gguf"), Export(to="ollama"), Export(dtype="bf16")):
        with pytest.raises(UserError, match=r"model\.safetensors is not the file that was written"):
            export(path, wanted)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ckpt1", "tokenizer"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "give one of"),
        ({"to": "gguf", "dtype": "bf16"}, "give one of"),
        ({"to": "onnx"}, "gguf, ollama"),
        ({"to": "gguf", "type": "Q4_0"}, "F32, F16, BF16, Q8_0"),
        ({"dtype": "fp8"}, "BF16, F16"),
        ({"dtype": "bf16", "type": "F16"}, "--type is a GGUF's"),
        ({"to": "gguf", "out": " "}, "--out"),
    ],
)
def test_a_bad_request_is_one_line(flags: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        Export(**flags)
    assert "\n" not in str(error.value)


# -- llama.cpp itself


def llama_python() -> str | None:
    """A Python that has llama-cpp-python: $LOAM_LLAMA_PYTHON, or this one."""
    if found := os.environ.get("LOAM_LLAMA_PYTHON"):
        return found
    return sys.executable if importlib.util.find_spec("llama_cpp") else None


needs_llama_cpp = pytest.mark.skipif(
    llama_python() is None,
    reason="llama-cpp-python is not installed here; LOAM_LLAMA_PYTHON may name a Python that has it",
)


@needs_llama_cpp
@pytest.mark.parametrize("shape", [{}, {"qk_norm": False}, {"qk_norm": False, "rope_scaling": STRETCHED}], ids=str)
def test_llama_cpp_gives_the_same_prompts_logits_and_greedy_answers(
    backend: str, tmp_path: Path, shape: dict[str, Any]
) -> None:
    """Logits of the F32 file to 0.001 and so greedy answers, but for ties nearer than that."""
    path = make_checkpoint(tmp_path, backend, **shape)
    model, tok, _ = load_for_inference(path)
    prompts = [render_prompt(tok, f"{text[i : i + 30]}?") for text in TEXTS for i in range(5)]
    texts = [*TEXTS, QUESTION, *SPECIAL_TOKENS, "a <|user|> b"]
    job = {"gguf": str(write(path, to="gguf", type="F32")), "exact": True, "context": SHAPE.seq_len,
           "sequences": prompts, "prompts": prompts, "num_tokens": 16, "eos": EOS, "chats": [CHAT],
           "texts": texts}  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = [str(llama_python()), str(ROOT / "bench" / "llama_side.py"), "job.json", "out.npz"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npz")
    assert json.loads(str(found["chat"])) == json.loads(str(found["chat_cpp"])) == [our_prompt(path)]
    assert json.loads(str(found["text"])) == [tok.encode(text) for text in texts]
    with torch.no_grad():
        logits = torch.cat([model.logits(model(torch.tensor([ids])))[0] for ids in prompts]).numpy()
    assert np.abs(found["logits"] - logits).max() < 0.001
    answers = [said.ids for said in generate(model, prompts, 16, EOS)]
    for prompt, ours, theirs in zip(prompts, answers, json.loads(str(found["greedy"])), strict=True):
        assert ours == theirs or gap(model, prompt, ours, theirs) < 0.001


@needs_llama_cpp
def test_what_llama_cpp_loses_by_a_type_is_within_the_bound(tmp_path: Path) -> None:
    """KL to the F32 file, mean and largest: at most four times that of random errors of the type's size in the weights
    alone, as llama.cpp rounds what they are multiplied with, too."""
    path = make_checkpoint(tmp_path)
    model, tok, _ = load_for_inference(path)
    prompts = [render_prompt(tok, f"{text[i : i + 30]}?") for text in TEXTS for i in range(5)]
    job = {"context": SHAPE.seq_len, "sequences": prompts}
    exact = torch.from_numpy(ask(path, "F32", job | {"exact": True}, str(llama_python()), tmp_path)["logits"])
    for kind in ("F16", "BF16", "Q8_0"):
        moved = divergence(exact, torch.from_numpy(ask(path, kind, job, str(llama_python()), tmp_path)["logits"]))
        noise = divergence(logits_of(model, prompts), logits_of(noisy(path, kind), prompts))
        assert 0 < moved.mean() < FACTOR * noise.mean(), kind
        assert moved.max() < FACTOR * noise.max(), kind
