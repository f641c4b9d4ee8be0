"""The forecast's lines: the law as it is written, an interval, other choices, and a word where nothing was measured."""

import math
import shutil
from pathlib import Path

import pytest

import train as train_script
from config import Config
from model.config import ModelConfig, count_parameters, resolve_shape
from model.huggingface import load_shape
from training import forecast
from training.checkpoint import read_meta
from training.config import TrainConfig
from training.forecast import LAW, Earlier, Law, earlier_runs, forecast_lines, other_choices

TINY = resolve_shape(ModelConfig(), 4096)


def test_the_law_by_hand() -> None:
    law = Law(k=2.0, floor=0.5, a=0.3, alpha=1.0, b=0.4, beta=2.0, s=0.5)
    # 2 million parameters; 1 million tokens three times are worth 1 + 0.5 + 0.25 million.
    assert law(1.5, 2e6, 1e6, 3) == pytest.approx(2.25 * (0.5 + 0.3 / 2 + 0.4 / 1.75**2))


def test_more_of_everything_is_expected_to_be_better() -> None:
    here = LAW(1.5, 1e6, 5e5, 3)
    assert LAW(1.5, 2e6, 5e5, 3) < here
    assert LAW(1.5, 1e6, 1e6, 3) < here
    assert LAW(1.5, 1e6, 5e5, 4) < here
    assert LAW(1.4, 1e6, 5e5, 3) < here


def test_lines_give_the_expected_figure_its_interval_and_other_choices() -> None:
    baseline, expected, others = forecast_lines(1.4, TINY, 600_000, TrainConfig(epochs=3))
    assert "1.400 bits per byte" in baseline
    middle = LAW(1.4, count_parameters(TINY), 600_000, 3)
    low, high = (middle * math.exp(sign * forecast.QUANTILE * forecast.SPREAD) for sign in (-1, 1))
    assert f"expected: {middle:.2f} bits per byte, {low:.2f} to {high:.2f} for 8 of 10" in expected
    assert "outside" not in expected
    assert f"tiny x 10 epochs {LAW(1.4, count_parameters(TINY), 600_000, 10):.2f} ({10 / 3:.2g} x the work)" in others


def test_other_choices_are_the_best_of_their_work_without_the_run_itself() -> None:
    choices = other_choices(1.4, TINY, 600_000, 3)
    works, bits = [choice[2] for choice in choices], [choice[3] for choice in choices]
    assert works == sorted(works)
    assert bits == sorted(bits, reverse=True)
    assert ("tiny", 3) not in [choice[:2] for choice in choices]
    assert {choice[0] for choice in choices} <= {"tiny", "small"}  # nothing larger was measured
    # A choice left out is equalled by a cheaper one, the run itself among them.
    kept = [*((w, b) for _, _, w, b in choices), (1.0, LAW(1.4, count_parameters(TINY), 600_000, 3))]
    for name in ("tiny", "small"):
        sizes = resolve_shape(ModelConfig(preset=name, seq_len=TINY.seq_len), 4096)
        for epochs in forecast.OTHER_EPOCHS:
            if (name, epochs) not in [(*choice[:2],) for choice in choices]:
                work = forecast._work(sizes) * epochs / forecast._work(TINY) / 3
                found = LAW(1.4, count_parameters(sizes), 600_000, epochs)
                assert any(w <= work * (1 + 1e-9) and b <= found * (1 + 1e-9) for w, b in kept), (name, epochs)


def test_a_run_unlike_all_measured_ones_says_so() -> None:
    large = resolve_shape(ModelConfig(preset="350m"), 32768)
    assert "parameters are outside" in forecast_lines(1.4, large, 600_000, TrainConfig(epochs=3))[1]
    assert "epochs are outside" in forecast_lines(1.4, TINY, 600_000, TrainConfig(epochs=40))[1]
    lines = forecast_lines(1.4, TINY, 50_000_000, TrainConfig(epochs=3))
    assert "target tokens an epoch are outside" in lines[1]
    assert len(lines) == 2  # no other choices where none was measured
    other = TrainConfig(epochs=3, optimizer="adamw", average=False)
    line = forecast_lines(1.4, TINY, 600_000, other, counted="2,000,000 tokens of the training split")
    assert "optimizer adamw, which those runs had not: a guess; single epochs at the end, which" in line[1]
    assert "counted on 2,000,000 tokens of the training split just now" in line[0]


def test_a_run_of_the_same_corpus_moves_the_law_through_itself_and_narrows_the_interval() -> None:
    parameters = count_parameters(TINY)
    found = 0.7 * LAW(1.4, parameters, 600_000, 3)
    earlier = [Earlier("first", parameters, 3, found)]
    line = forecast_lines(1.4, TINY, 600_000, TrainConfig(epochs=3), earlier)[1]
    high = found * math.exp(forecast.QUANTILE * forecast.SPREAD_MOVED)
    assert f"expected: {found:.2f} bits per byte" in line
    assert f"to {high:.2f} for 8 of 10" in line
    assert "moved through first" in line
    twice = [*earlier, Earlier("second", parameters, 3, found / 0.49)]  # as far above as the first is below
    assert (
        f"expected: {LAW(1.4, parameters, 600_000, 3):.2f} bits"
        in forecast_lines(1.4, TINY, 600_000, TrainConfig(epochs=3), twice)[1]
    )


def test_earlier_runs_are_those_that_ended_on_this_corpus_with_this_tokenizer(config: Config) -> None:
    train_script.train(config)
    meta = read_meta(Path("runs/t/ckpt2"))
    made = ("muon", 48)
    (found,) = earlier_runs(Path("runs/new"), meta["corpus"], meta["tokenizer"], *made)
    assert (found.run, found.epochs, found.parameters) == ("t", 2, count_parameters(load_shape(Path("runs/t/ckpt2"))))
    assert found.bits_per_byte == min(read_meta(Path(f"runs/t/ckpt{n}"))["metrics"]["val_bpb"] for n in (1, 2))
    assert not earlier_runs(Path("runs/t"), meta["corpus"], meta["tokenizer"], *made)  # not through itself
    assert not earlier_runs(Path("runs/new"), "another", meta["tokenizer"], *made)
    assert not earlier_runs(Path("runs/new"), meta["corpus"], "another", *made)
    for other in (("adamw", made[1]), (made[0], 64)):
        assert not earlier_runs(Path("runs/new"), meta["corpus"], meta["tokenizer"], *other)
    (Path("runs/t/ckpt1/loam.json")).write_text("damaged")
    assert not earlier_runs(Path("runs/new"), meta["corpus"], meta["tokenizer"], *made)
    shutil.rmtree("runs/t/ckpt2")
    assert not earlier_runs(Path("runs/new"), meta["corpus"], meta["tokenizer"], *made)
