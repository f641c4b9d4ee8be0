"""What eval/check.py finds in what a model says, on how much text it rests, and the command itself."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.data_speed import synthetic_tokens
from common.errors import UserError
from eval import check as check_script
from eval import soundness, soundness_tensors
from eval.check import check, next_command
from eval.losses import document_losses
from eval.soundness_answers import FEWEST_PIECES, check_loss, draw_pieces, loop_share, nats_of, parrots
from eval.speaker import Speaker, own_speaker
from eval.subjects import corpus_of
from eval.validation_text import corpus_prompts, validation_documents
from model.generate import Generation
from tests.eval.conftest import SEQ_LEN, make_rows, make_table
from tests.eval.sound import copy_run, line_of, make_sound_run, statuses
from tokenizer.bpe import load_tokenizer
from tokenizer.encode import encode_table
from tokenizer.template import BOS, NUM_SPECIAL, USER, render_prompt
from training.checkpoint import load_for_inference

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Path:
    return make_sound_run(tmp_path_factory.mktemp("check") / "runs" / "c", rows)


def with_speaker(monkeypatch: pytest.MonkeyPatch, change: Callable[[Speaker], Speaker]) -> None:
    """`check` sees another model than the one on disk."""
    monkeypatch.setattr(check_script, "own_speaker", lambda path, device: change(own_speaker(path, device)))


def says(*texts: list[int], stopped: bool = True) -> Callable[[Speaker], Speaker]:
    """A model that answers each prompt with these ids, in turn."""

    def answer(prompts: list[list[int]], most: int) -> list[Generation]:
        return [Generation(list(texts[i % len(texts)])[:most], stopped) for i in range(len(prompts))]

    return lambda speaker: replace(speaker, answer=answer)


# What is said -> the line, its status where all answers are so, and where one of three is.
ANSWERS: dict[str, tuple[list[int], str, str, str]] = {
    "nothing": ([], "answers", "fail", "warn"),
    "one token": ([77] * 30, "repeats", "fail", "warn"),
    "a short loop": ([77, 88, 99] * 10, "repeats", "fail", "warn"),
    "a loop at the end": ([*range(100, 114), *[77] * 16], "repeats", "warn", "warn"),
    "a marker": ([*range(100, 114), USER, 120], "markers", "warn", "warn"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_are_none_are_told(sound_run: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    ids, name, of_all, of_one = ANSWERS[case]
    good = list(range(100, 130))
    for said, status in (([ids], of_all), ([good, ids, good], of_one), ([good], "pass")):
        with monkeypatch.context() as patched:
            with_speaker(patched, says(*said))
            result = check(sound_run / "ckpt3")
        assert line_of(result, name)["status"] == status
        assert statuses(result, "fail") == ([name] if status == "fail" else [])
        assert statuses(result, "warn") == ([name] if status == "warn" else [])


def test_a_model_that_parrots_fails_and_one_that_never_stops_warns(
    sound_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(prompts: list[list[int]], most: int) -> list[Generation]:
        return [Generation([token for token in prompt if token >= NUM_SPECIAL], False) for prompt in prompts]

    with_speaker(monkeypatch, lambda speaker: replace(speaker, answer=copy))
    result = check(sound_run / "ckpt3")
    assert statuses(result, "fail") == ["parrots"]
    assert statuses(result, "warn") == ["stops"]
    assert "0 of " in line_of(result, "stops")["found"]


def test_a_model_that_looks_ahead_fails(sound_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ahead(speaker: Speaker) -> Speaker:
        def logits(ids: torch.Tensor) -> torch.Tensor:
            found = speaker.logits(ids)
            return found + 0.01 * found.roll(-1, dims=1)  # a little of what the next token gives

        return replace(speaker, logits=logits)

    with_speaker(monkeypatch, ahead)
    result = check(sound_run / "ckpt3")
    assert statuses(result, "fail") == ["left to right"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_fail(sound_run: Path, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    with_speaker(monkeypatch, lambda speaker: replace(speaker, logits=lambda ids: speaker.logits(ids) + value))
    result = check(sound_run / "ckpt3")
    assert statuses(result, "fail") == ["logits"]
    assert statuses(result, "skip")[0] == "left to right"


def test_nats_are_those_of_the_validation(sound_run: Path, rows: list[dict[str, Any]]) -> None:
    model, tok, _ = load_for_inference(sound_run / "ckpt3")
    tokens = encode_table(make_table([*rows, *make_rows(9, seed=7)]), tok)
    plain = document_losses(model, tokens, SEQ_LEN, batch_rows=1)
    pieces, total = draw_pieces(tokens, SEQ_LEN, 10**9)
    assert total == sum(len(piece) - 1 for piece in pieces) == tokens.num_targets
    nats = nats_of(own_speaker(sound_run / "ckpt3", CPU), pieces)
    assert [len(each) for each in nats] == [len(piece) - 1 for piece in pieces]
    assert sum(each.sum() for each in nats) == pytest.approx(plain.nats.sum(), rel=1e-6)
    alone = [nats_of(own_speaker(sound_run / "ckpt3", CPU), [piece])[0] for piece in pieces[:20]]
    for together, single in zip(nats, alone, strict=False):
        np.testing.assert_allclose(together, single, rtol=2e-4, atol=2e-5)


def test_pieces_are_drawn_once_each_and_as_many_as_the_budget_asks_for() -> None:
    tokens = synthetic_tokens(300, mean_tokens=90, sigma=0.8, seed=3)
    whole, total = draw_pieces(tokens, 64, 10**9)
    assert total == tokens.num_targets
    for budget in (1, 500, 5000, total - 1, total):
        some, _ = draw_pieces(tokens, 64, budget)
        assert len(some) == math.ceil(budget / (total / len(whole)))  # not more where they are short
        assert [piece.tolist() for piece in some] == [piece.tolist() for piece in whole[: len(some)]]
        assert all(2 <= len(piece) <= 65 for piece in some)


def statuses_of_loss(sample: list[np.ndarray], total: int, said: float) -> str:
    speaker = Speaker(256, 10, None, None, None, [], CPU)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("eval.soundness_answers.nats_of", lambda speaker, pieces: sample)
        return check_loss(speaker, [], total, said, 300).status


@pytest.mark.parametrize(("number", "broken"), [(6, "warn"), (FEWEST_PIECES - 1, "warn"), (FEWEST_PIECES, "fail")])
def test_a_few_pieces_do_not_fail_what_is_sound_and_warn_of_what_is_broken(number: int, broken: str) -> None:
    """Targets of a piece are alike: blocks of 128 of them, taken for independent, failed 4% of such draws of 6."""
    generator = np.random.default_rng(1)
    lengths = generator.integers(10, 257, size=400)
    costs = [generator.normal(generator.normal(4, 1), 2.0, length) for length in lengths]
    total, said = int(lengths.sum()), float(np.concatenate(costs).mean())
    draws = [[costs[i] for i in generator.permutation(len(costs))[:number]] for _ in range(1000)]
    found = Counter(statuses_of_loss(draw, total, said) for draw in draws)
    assert found["fail"] == 0
    assert found["warn"] <= 5
    flat = [np.full(length, 1.4 * said) for length in lengths[:number]]
    assert statuses_of_loss(flat, total, said) == broken
    assert statuses_of_loss(flat, sum(map(len, flat)), said) == "fail"  # all is read: nothing is left to chance
    for gross in (0.15, 1.85):  # as of other weights
        assert statuses_of_loss([np.full(length, gross * said) for length in lengths[:number]], total, said) == "fail"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_to_three_pieces_tell_what_is_grossly_off(number: int) -> None:
    """However much their targets and they themselves differ: Student's t for two pieces allows 9 deviations of them."""
    generator = np.random.default_rng(number)
    pieces = [generator.gamma(2.0, level / 2, 600) for level in (8.0, 9.0, 10.5)[:number]]
    assert statuses_of_loss(pieces, 10**6, 3.9) == "fail"
    assert statuses_of_loss(pieces, 10**6, 8.5) == "pass"


def test_the_tolerance_is_that_of_students_t_for_the_number_of_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = [np.full(10, value) for value in np.linspace(2, 4, 20)]
    monkeypatch.setattr("eval.soundness_answers.nats_of", lambda speaker, pieces: costs)
    figures = check_loss(None, [], 10**9, 3.0, 20).figures  # type: ignore[arg-type]
    error = np.linspace(2, 4, 20).std(ddof=1) / np.sqrt(20)
    assert figures["standard_error"] == pytest.approx(error, rel=1e-4)
    assert figures["tolerance"] == pytest.approx(5.10196 * error + 0.03, rel=1e-3)  # as rare as 4 of a normal


def test_chance_is_allowed_for_and_nothing_else() -> None:
    """A sample of a large split: its own figure passes 100 times of 100, one that is 15% away fails as often."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(10, 200, size=3000)
    costs = [generator.gamma(3.0, 1.0, size=length) + generator.normal(0, 0.5) for length in lengths]
    total, said = int(lengths.sum()), float(np.concatenate(costs).mean())
    speaker = Speaker(256, 10, None, None, None, [], CPU)  # type: ignore[arg-type]
    passed = {1.0: 0, 1.15: 0}
    for _ in range(100):
        sample = [costs[i] for i in generator.permutation(3000)[:400]]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("eval.soundness_answers.nats_of", lambda speaker, pieces, sample=sample: sample)
            for factor in passed:
                passed[factor] += check_loss(speaker, [], total, said * factor, 3000).status == "pass"
    assert passed == {1.0: 100, 1.15: 0}


def plain_loop_share(ids: Sequence[int]) -> float:
    """By trying every stretch."""
    best = 0
    for first in range(len(ids)):
        for last in range(first + 8, len(ids) + 1):
            some = list(ids[first:last])
            if any(len(some) >= 4 * p and some[p:] == some[:-p] for p in range(1, 9)):
                best = max(best, len(some))
    return best / len(ids) if ids else 0.0


def test_loops_are_found_as_by_trying_every_stretch() -> None:
    generator = np.random.default_rng(1)
    found = []
    for _ in range(300):
        size, letters = int(generator.integers(0, 40)), int(generator.integers(1, 4))
        ids = generator.integers(0, letters, size=size).tolist()
        if generator.random() < 0.5:
            ids += generator.integers(0, 9, size=int(generator.integers(1, 9))).tolist() * int(generator.integers(2, 7))
        found.append(loop_share(ids))
        assert found[-1] == plain_loop_share(ids), ids
    assert min(found) == 0
    assert sum(0 < share < 1 for share in found) > 50
    assert max(found) == 1


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        ("What color has the sky?", "What color has the sky?", True),
        ("What color has the sky?", "what COLOR  has\nthe sky? It is blue, as everybody knows who looks up.", True),
        ("What color has the sky above us?", "color has the sky", True),
        ("What color has it?", "Seen in a book. What color has it?", True),
        ("What color has the sky?", "The sky is blue.", False),
        ("Is it red, or blue?", "blue", False),  # short answers stand in many a question
        ("What color has the sky?", "", False),
    ],
)
def test_a_copy_of_the_question_is_told_from_an_answer(given: str, text: str, expected: bool) -> None:
    assert parrots(given, text) is expected


def test_documents_and_prompts_come_from_the_validation_split(sound_run: Path, rows: list[dict[str, Any]]) -> None:
    tok = load_tokenizer(sound_run / "tokenizer")
    corpus = corpus_of(sound_run / "ckpt3", {"corpus": "corpus-of-c"})
    assert corpus == (sound_run / "corpus").resolve()
    assert corpus_of(sound_run / "ckpt3", {"corpus": "another"}) is None
    assert corpus_of(sound_run / "ckpt3", {}) is None
    whole = validation_documents(corpus)
    assert sorted(whole["id"].to_pylist()) == sorted(row["id"] for row in rows[:4])
    assert len(validation_documents(corpus, most_bytes=1)) == 1
    prompts = corpus_prompts(whole, tok, SEQ_LEN, 4, 20)
    asked = {row["question"]: row for row in rows[:4] if row["kind"] == "qa"}
    assert {prompt.question for prompt in prompts} <= set(asked)
    assert prompts
    for prompt in prompts:
        assert prompt.ids[0] == BOS
        assert prompt.ids == render_prompt(tok, prompt.given, asked[prompt.given]["context"])


def test_a_checkpoint_that_is_pruned_meanwhile_is_one_clear_line(
    sound_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (module, name) in enumerate(
        [(soundness, "check_files"), (soundness, "check_hashes"), (soundness_tensors, "check_weights"),
         (soundness_tensors, "check_size")]
    ):  # fmt: skip
        gone = copy_run(sound_run, tmp_path / str(number) / "c")
        plain = getattr(module, name)

        def look(*arguments: Any, plain: Any = plain, gone: Path = gone) -> Any:
            shutil.rmtree(gone)
            return plain(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(module, name, look)
            with pytest.raises(UserError, match="went away while it was looked at") as told:
                check(gone)
        assert "\n" not in str(told.value)


def test_a_trainer_folder_that_is_pruned_meanwhile_is_no_fault(
    sound_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = copy_run(sound_run, tmp_path / "c")
    plain = soundness.file_sha256

    def digest(file: Path) -> str:
        if file.parent.name == "trainer":
            shutil.rmtree(checkpoint / "trainer", ignore_errors=True)
        return plain(file)

    monkeypatch.setattr(soundness, "file_sha256", digest)
    result = check(checkpoint)
    assert statuses(result, "fail") == []
    assert not (checkpoint / "trainer").exists()


def test_a_model_that_memory_does_not_hold_is_not_opened(sound_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_script, "free_memory", lambda device: 100_000)
    result = check(sound_run / "ckpt3")
    assert line_of(result, "tensors")["status"] == "warn"
    assert "bytes are needed to open it" in line_of(result, "tensors")["found"]
    assert statuses(result, "skip") == [*check_script.SPOKEN]
    assert line_of(result, "weights")["status"] == "pass"


def test_loams_own_need_no_transformers(sound_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert check(sound_run / "ckpt3")["sound"] is True


def test_what_comes_next_is_chat_or_another_checkpoint(sound_run: Path) -> None:
    path = sound_run / "ckpt3"
    assert next_command(path, {"kind": "loam", "sound": True}) == f"python chat.py {path}"
    assert next_command(path, {"kind": "loam", "sound": False}) == f"python eval/check.py {sound_run / 'ckpt2'}"
    assert next_command(path, {"kind": "other", "sound": True}) is None


def test_the_command_ends_with_0_1_or_2_and_writes_json(sound_run: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    broken = copy_run(sound_run, runs / "c")
    (broken.parent / "ckpt2" / "config.json").unlink()

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        started = [sys.executable, str(ROOT / "eval" / "check.py"), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(started, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    sound = command("ckpt3", "--json", "out.json")
    assert sound.returncode == 0, sound.stderr
    assert sound.stderr == ""
    lines = sound.stdout.splitlines()
    assert lines[-3:] == ["runs/c/ckpt3 is sound: 20 pass", "json: out.json", "next: python chat.py runs/c/ckpt3"]
    assert all(line.startswith("pass  ") for line in lines[:20])
    result = json.loads((tmp_path / "out.json").read_text())
    assert [line["name"] for line in result["lines"]] == [line[6:21].strip() for line in lines[:20]]
    assert result == {**check(broken), "checkpoint": "runs/c/ckpt3"}

    unsound = command("c/ckpt2", "--quick")
    assert (unsound.returncode, unsound.stderr) == (1, "")
    assert "fail  files           config.json is missing: take another checkpoint" in unsound.stdout
    assert unsound.stdout.splitlines()[-1] == "next: python eval/check.py runs/c/ckpt3"

    (tmp_path / "empty").mkdir()
    inside = str(broken / "out.json")
    mistakes = {"nowhere": "no such checkpoint", "empty": "is not a checkpoint: it has neither config.json"}
    words = [[name] for name in mistakes] + [["ckpt3", "--json", inside], ["ckpt3", "--device", "tpu"]]
    said = [
        *mistakes.values(),
        f"lies in the checkpoint {broken.resolve()}, which",
        "expected one of auto, cpu, cuda, mps",
    ]
    for flags, text in zip(words, said, strict=True):
        wrong = command(*flags)
        assert wrong.returncode == 2
        assert wrong.stderr.startswith("error: ")
        assert text in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1
