"""A model that was made elsewhere is fine-tuned, and chat, check, compare and transformers open what comes out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer

import chat
import train as train_script
from common.errors import UserError
from config import Config
from data.turns import join_turns
from eval.check import check
from eval.compare import compare
from eval.config import EvalConfig
from eval.opened import open_foreign
from model.config import ModelConfig
from model.generate import generate
from model.huggingface import load_shape
from tests.model.test_foreign_models import make
from tests.server.conftest import server
from tests.tokenizer.made_elsewhere import CHATML, THINKING, byte_level, pieces, write
from tests.training.conftest import write_corpus
from tokenizer.dialog import open_dialog
from tokenizer.encode import read_corpus
from tokenizer.foreign_files import PLAIN_TEMPLATE
from tokenizer.template import IN_ANSWER, IN_CONTEXT, IN_QUESTION, MARKER, messages_of
from training.checkpoint import load_for_inference, load_to_ask, read_meta
from training.config import TrainConfig
from training.samples import sample_lines
from training.start import take

QUESTION = {"role": "user", "content": "What color is the sky?"}


def tune(config: Config, template: str | None, **made: Any) -> Path:
    """The last checkpoint of a run `ft` that starts from a random Llama in `base`."""
    base = write(Path("base"), byte_level(), template, "<|im_end|>" if template else "</s>")
    size = len(json.loads((base / "tokenizer.json").read_text())["model"]["vocab"])
    make(base, vocab_size=size + 40, max_position_embeddings=256, eos_token_id=size, **made)
    write_corpus(Path("runs/ft/corpus"), {"train": 120, "val": 20, "test": 20})
    settings = {"stage": "finetune", "init_from": "base", "epochs": 2, "average": False, "samples": 2}
    train_script.train(
        replace(config, run="ft", model=ModelConfig(), train=TrainConfig(**{**vars(config.train), **settings}))
    )
    return Path("runs/ft/ckpt2")


@pytest.fixture
def tuned(config: Config) -> Path:
    return tune(config, CHATML, shard="60KB")


def test_it_speaks_its_own_template_everywhere(tuned: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert read_meta(tuned)["dialog"] == "its own"
    assert not load_shape(tuned).qk_norm
    model, dialog, _ = load_to_ask(tuned)
    theirs, tok = AutoModelForCausalLM.from_pretrained(tuned).eval(), AutoTokenizer.from_pretrained(tuned)
    prompt = dialog.prompt([QUESTION])
    found: Any = tok.apply_chat_template([QUESTION], add_generation_prompt=True, return_dict=False)
    assert prompt == list(found)
    with torch.no_grad():
        ids = torch.tensor([prompt])
        torch.testing.assert_close(theirs(ids).logits, model.logits(model(ids)), atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="made elsewhere"):
        load_for_inference(tuned)
    # What the template ends an answer with is an eos to all, though the folder named another.
    assert theirs.generation_config.eos_token_id == dialog.eos
    assert dialog.decode_bytes(dialog.eos[:1]) == b"<|im_end|>"

    side = chat.Side(model, dialog)
    out: list[str] = []
    chat.chat(
        [side], iter(["What color is the sky?", "And the sea?"]), chat.Sampling(0.0, max_new_tokens=20), out.append
    )
    assert len(side.history) == 2
    assert "<|" not in "".join(out)

    lines = {line["name"]: line for line in check(tuned)["lines"]}
    assert {lines[name]["status"] for name in ("files", "hashes", "tensors", "template")} == {"pass"}
    assert lines["trained on"]["found"].startswith("responses only")
    assert check(tuned)["kind"] == "other"


def test_it_is_served_in_its_own_words(tuned: Path) -> None:
    model, dialog, _ = load_to_ask(tuned)
    num_rows = model.shape.vocab_size
    assert num_rows > dialog.vocab_size  # rows of the embedding that are no tokens
    banned = [*dialog.banned, *range(dialog.vocab_size, num_rows)]
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What <|im_end|> is é?"}]
    prompt = dialog.prompt(messages)
    [expected] = generate(
        model, [prompt], 24, dialog.eos[0], banned=banned, ends=lambda row, ids: ids[-1] in dialog.eos
    )
    with server(Path.cwd(), tuned.resolve(), "--precision", "fp32") as running, running.client() as client:
        assert [(each.id, each.model_extra) for each in client.models.list()] == [("ft/ckpt2", {"max_model_len": 256})]
        asked: Any = {"model": "ft/ckpt2", "messages": messages, "max_tokens": 24}
        said = client.chat.completions.create(**asked, temperature=0, logprobs=True, top_logprobs=20)
        assert said.usage is not None
        assert said.usage.prompt_tokens == len(prompt)
        assert said.choices[0].message.content == dialog.decode_bytes(expected.ids).decode(errors="replace")
        assert said.choices[0].finish_reason == ("stop" if expected.stopped or expected.ended else "length")
        stream = client.chat.completions.create(**asked, temperature=0, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces) == said.choices[0].message.content
        # Hot and long: the rows that are no tokens, and the template's markers, are never drawn or told.
        hot = client.chat.completions.create(**{**asked, "max_tokens": 150}, temperature=20, seed=3, logprobs=True,
                                             top_logprobs=20, extra_body={"min_tokens": 150})  # fmt: skip
        assert hot.usage is not None
        assert hot.usage.completion_tokens == 150
        assert hot.choices[0].logprobs is not None
        for token in hot.choices[0].logprobs.content or []:
            assert token.bytes
            assert len(token.top_logprobs) == 20
            assert all(-9999 < likely.logprob <= 0 for likely in token.top_logprobs)
        # A text to go on with begins as the tokenizer has it; ids behind its last are refused.
        text = client.completions.create(model="ft/ckpt2", prompt="The sky", max_tokens=3)
        assert text.usage is not None
        assert text.usage.prompt_tokens == len([*dialog.begin, *dialog.encode("The sky")])
        with pytest.raises(openai.BadRequestError, match=f"{dialog.vocab_size} is no token"):
            client.completions.create(model="ft/ckpt2", prompt=[dialog.vocab_size])


def test_a_damaged_one_is_refused_by_all(tuned: Path) -> None:
    (tuned / "chat_template.jinja").write_text("{{ messages[0].content }}")
    changed = r"chat_template\.jinja is not the file that was written"
    for opened in (lambda: load_to_ask(tuned), lambda: open_foreign(tuned, torch.device("cpu"))):
        with pytest.raises(UserError, match=changed):
            opened()
    lines = {line["name"]: line for line in check(tuned, quick=True)["lines"]}
    assert lines["hashes"]["status"] == "fail"


def test_answers_are_compared_behind_the_prompts_that_they_were_trained_behind(tuned: Path) -> None:
    config = EvalConfig(resamples=1000, num_answers=2, max_new_tokens=8, device="cpu")
    result = compare([tuned.with_name("ckpt1"), tuned], config)
    corpus = read_meta(tuned)["corpus"]
    assert [facts["corpus"] for facts in result["checkpoints"]] == [corpus, corpus]
    assert result["measured_on"] == "answers and texts"

    # One document by hand: the nats of the answer's tokens behind its prompt.
    table = next(iter(read_corpus(Path("runs/ft/corpus"), "val", ["text", "context", "question", "answer"])))
    row = next(i for i, each in enumerate(table.to_pylist()) if each["answer"])
    document = table.slice(row, 1)
    losses = open_foreign(tuned, torch.device("cpu")).losses(document)
    model, dialog, _ = load_to_ask(tuned)
    fields = document.to_pylist()[0]
    context = [{"role": "context", "content": fields["context"]}] if fields["context"] else []
    messages = [*context, {"role": "user", "content": fields["question"]},
                {"role": "assistant", "content": fields["answer"]}]  # fmt: skip
    whole = dialog.document(messages)
    with torch.no_grad():
        nats = -model.logits(model(torch.tensor([whole.ids])))[0].log_softmax(-1)[:-1]
    answer = [float(nats[i - 1, whole.ids[i]]) for i in range(len(whole.ids)) if whole.trained[i] == 1]
    assert losses.nats[0, IN_ANSWER] == pytest.approx(sum(answer), rel=1e-4)
    assert losses.num_targets[0, IN_ANSWER] == len(answer)
    assert losses.num_targets[0, IN_QUESTION] == len(dialog.encode(fields["question"]))
    assert losses.num_targets[0, MARKER] == 1  # the end of the answer


def test_a_model_without_a_template_gets_one_that_others_find(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tune(config, None)
    assert "warning: it has no chat template" in capsys.readouterr().out
    assert (tuned / "chat_template.jinja").read_text() == PLAIN_TEMPLATE
    from transformers import AutoTokenizer

    found: Any = AutoTokenizer.from_pretrained(tuned).apply_chat_template(
        [QUESTION], add_generation_prompt=True, return_dict=False
    )
    assert open_dialog(tuned).prompt([QUESTION]) == list(found) == open_dialog(Path("base")).prompt([QUESTION])


def test_a_folder_made_elsewhere_is_asked_without_a_run(tuned: Path) -> None:
    model, dialog, meta = load_to_ask(Path("base"))
    assert meta == {}
    assert not model.training
    assert dialog.prompt([QUESTION]) == open_dialog(tuned).prompt([QUESTION])
    shutil.copytree("base", "smaller")
    make(Path("smaller"), vocab_size=64)
    for file in Path("smaller").glob("*.index.json"):
        file.unlink()
    with pytest.raises(UserError, match="the model has 64 tokens"):
        load_to_ask(Path("smaller"))


def start_of(config: Config, source: str, **settings: Any) -> Config:
    write_corpus(Path("runs/two/corpus"), {"train": 60, "val": 20, "test": 20})
    found = {"stage": "finetune", "init_from": source, "epochs": 1, "average": False, "samples": 2, **settings}
    return replace(config, run="two", model=ModelConfig(), train=TrainConfig(**{**vars(config.train), **found}))


def test_a_hubs_links_become_files_that_writing_to_it_does_not_change(tuned: Path, config: Config) -> None:
    blobs, snapshot = Path("hub/blobs"), Path("hub/snapshots/abc")
    shutil.copytree("base", blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    train_script.train(start_of(config, str(snapshot)), plan_only=True)
    for file in blobs.iterdir():
        with file.open("r+b") as open_file:
            open_file.truncate(3)  # in place, as save_pretrained writes
    train_script.train(start_of_again(config, str(snapshot)))
    load_to_ask(Path("runs/two/ckpt1"))


def start_of_again(config: Config, source: str) -> Config:
    shutil.rmtree("runs/two/corpus")
    return start_of(config, source)


def test_a_damaged_checkpoint_of_anothers_model_is_no_start(tuned: Path, config: Config) -> None:
    weights = tuned / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="is not the file that was written"):
        train_script.train(start_of(config, str(tuned)), plan_only=True)


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_one_line(tuned: Path, config: Config) -> None:
    shutil.copytree("base", "smaller")
    for file in Path("smaller").glob("model*"):
        file.unlink()
    make(Path("smaller"), vocab_size=64)
    with pytest.raises(UserError, match="resize the model's embedding"):
        train_script.train(start_of(config, "smaller"), plan_only=True)


def test_an_end_that_config_json_alone_names_is_learned(tuned: Path, config: Config) -> None:
    base = write(Path("endless"), byte_level(), "{% for m in messages %}{{ m.content }}\n{% endfor %}", "</s>")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (base / name).exists():
            found = json.loads((base / name).read_text())
            found.pop("eos_token", None)
            (base / name).write_text(json.dumps(found))
    end = Tokenizer.from_file(str(base / "tokenizer.json")).token_to_id("</s>")
    size = len(json.loads((base / "tokenizer.json").read_text())["model"]["vocab"])
    make(base, vocab_size=size + 40, eos_token_id=end)
    (base / "generation_config.json").unlink()
    train_script.train(start_of(config, "endless"))
    assert open_dialog(Path("runs/two/init")).eos == open_dialog(Path("runs/two/ckpt1")).eos == [end]


def test_another_model_takes_the_place_of_a_planned_one(tuned: Path, config: Config) -> None:
    train_script.train(start_of(config, "base"), plan_only=True)
    other = write(Path("other"), pieces(), CHATML, "</s>")
    rows = Tokenizer.from_file(str(other / "tokenizer.json")).get_vocab_size()
    make(other, vocab_size=rows, max_position_embeddings=256)
    train_script.train(start_of_again(config, "other"))
    assert load_to_ask(Path("runs/two/ckpt1"))[1].vocab_size == rows
    (other / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"other/tokenizer\.json: not a tokenizer"):
        take(replace(config.train, init_from="other"), Path("runs/three"))
    assert not Path("runs/three/tokenizer").exists()


def test_a_question_that_the_template_refuses_is_no_sample(tuned: Path) -> None:
    model, dialog, _ = load_to_ask(tuned)
    refused = {"question": "a \ufdd3 mark", "context": None, "text": None}
    asked = {"question": "What color is the sky?", "context": None, "text": None}
    lines = sample_lines(model, dialog, [refused, asked], 4)
    assert [line.partition(" -> ")[0] for line in lines] == ["  sample: What color is the sky?"]


def test_a_start_is_compared_as_its_run_asks(tuned: Path) -> None:
    init = Path("runs/ft/init")
    assert not (init / "loam.json").exists()
    model, dialog, _ = load_to_ask(init)
    table = next(iter(read_corpus(Path("runs/ft/corpus"), "val", ["text", "context", "question", "answer"])))
    context = join_turns([
        {"role": "context", "content": "Be kind."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "One."},
    ])  # fmt: skip
    talk = {"text": None, "context": context, "question": "And the sky?", "answer": "Blue."}
    document = pa.Table.from_pylist([talk], schema=table.schema)
    whole = dialog.document(messages_of(talk))
    with torch.no_grad():
        nats = -model.logits(model(torch.tensor([whole.ids])))[0].log_softmax(-1)[:-1]
    answers = [float(nats[i - 1, whole.ids[i]]) for i in range(len(whole.ids)) if whole.trained[i] == 1]
    losses = open_foreign(init, torch.device("cpu")).losses(document)
    assert losses.nats[0, IN_ANSWER] == pytest.approx(sum(answers), rel=1e-4)
    assert losses.num_targets[0, IN_ANSWER] == len(answers)
    assert losses.num_bytes[0, [IN_ANSWER, IN_QUESTION, IN_CONTEXT]].tolist() == [9, 18, 8]
    plain = open_foreign(Path("base"), torch.device("cpu")).losses(document)
    assert plain.num_bytes.tolist() == losses.num_bytes.tolist()
    assert plain.nats[0, IN_ANSWER] != pytest.approx(sum(answers), rel=1e-4)


def test_answers_that_a_template_writes_otherwise_when_they_are_earlier_count_as_text(config: Config) -> None:
    tuned = tune(config, THINKING)
    talk = {"text": None, "question": "And the sky?", "answer": "Blue.", "context": join_turns([
        {"role": "user", "content": "First?"}, {"role": "assistant", "content": "<think>one</think>One."},
    ])}  # fmt: skip
    schema = pa.schema([(name, pa.string()) for name in talk])
    losses = open_foreign(tuned, torch.device("cpu")).losses(pa.Table.from_pylist([talk], schema=schema))
    dialog = open_dialog(tuned)
    row = dialog.document(messages_of(talk))
    expected = len(dialog.encode("<think>one</think>One.")) + int((row.trained == 1).sum())
    assert losses.num_targets[0, IN_ANSWER] == expected
