"""Validation in a run: the same figures however few rows fit, none where no row does, and it can be told to stop."""

from typing import Any

import pytest
import torch

from bench.data_speed import VOCABULARY, synthetic_tokens
from eval.validation import validate
from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from training.distributed import World
from training.signals import Stopped

WORLD = World(0, 1, torch.device("cpu"))


@pytest.fixture
def model() -> Decoder:
    torch.manual_seed(0)
    shape = ModelConfig(num_layers=1, hidden_size=32, num_heads=2, num_kv_heads=1, seq_len=64)
    return Decoder(resolve_shape(shape, VOCABULARY))


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Any:
    import numpy as np

    from eval import losses

    tokens = synthetic_tokens(40, mean_tokens=30, sigma=0.7, seed=0)
    monkeypatch.setattr(losses, "document_roles", lambda tokens: np.full(len(tokens.ids), 1, dtype=np.uint8))
    monkeypatch.setattr(losses, "content_bytes", lambda tokens: np.full((len(tokens), 5), 10, dtype=np.int64))
    return tokens


class Small:
    """A memory that holds so many rows."""

    def __init__(self, model: Decoder, rows: int, error: Exception) -> None:
        self.rows, self.error, self.tried = rows, error, []  # type: ignore[var-annotated]
        model.register_forward_pre_hook(self)

    def __call__(self, module: Any, args: Any) -> None:
        self.tried.append(len(args[0]))
        if len(args[0]) > self.rows:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_rows_are_halved_until_they_fit_and_the_figures_stay(model: Decoder, tokens: Any, error: Exception) -> None:
    whole = validate(model, tokens, WORLD, 8)
    small = Small(model, 3, error)
    assert whole is not None
    assert validate(model, tokens, WORLD, 8) == pytest.approx(whole, rel=1e-6)
    assert small.tried[:3] == [8, 4, 2]


def test_where_no_row_fits_there_are_no_figures(model: Decoder, tokens: Any) -> None:
    Small(model, 0, torch.OutOfMemoryError("CUDA out of memory"))
    assert validate(model, tokens, WORLD, 8) is None


def test_another_error_is_not_taken_for_a_lack_of_memory(model: Decoder, tokens: Any) -> None:
    Small(model, 3, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        validate(model, tokens, WORLD, 8)


def test_it_stops_between_two_passes(model: Decoder, tokens: Any) -> None:
    passes = Small(model, 100, RuntimeError())
    with pytest.raises(Stopped):
        validate(model, tokens, WORLD, 4, stopping=lambda: len(passes.tried) == 2)
    assert len(passes.tried) == 2
