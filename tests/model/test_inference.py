"""A decoder prepared for answering is the plain one but for rounding."""

import copy
import random

import pytest
import torch

from model import inference
from model.cache import Cache
from model.config import RopeScaling
from model.decoder import Decoder, RMSNorm
from model.engine import Engine, Request
from model.generate import generate
from model.inference import Norm, Product, pack
from tests.model.test_engine import assert_same_but_for_near_ties, random_request, serve, tokens
from tests.model.test_generate import NO_EOS, PROMPTS, SHAPE, make_model

KINDS: dict[str, dict] = {
    "usual": {},
    "a head of its own": {"tie_embeddings": False},
    "a key head for each query": {"num_kv_heads": 4},
    "Llama's": {"qk_norm": False, "rope_scaling": RopeScaling(8.0, 1.0, 4.0, 16)},
}


def both(kind: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Decoder, Decoder]:
    plain = make_model(seed, **KINDS[kind]).eval().to(dtype)
    return plain, pack(copy.deepcopy(plain))


@pytest.fixture(params=["oneDNN", "torch"], autouse=True)
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to multiply."""
    if request.param == "torch":
        monkeypatch.setattr(inference, "packs", lambda weight: False)
    elif not inference.packs(torch.zeros(1)):
        pytest.skip("no oneDNN, or no x86 processor")
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_hidden_states_and_logits_are_the_plain_ones(kind: str, product: str) -> None:
    for seed in range(3):
        plain, packed = both(kind, seed)
        assert {part.packed for part in packed.modules() if isinstance(part, Product)} == {product == "oneDNN"}
        for size in ((1, 1), (1, 7), (3, 20), (2, 48)):
            ids = torch.randint(0, SHAPE.vocab_size, size)
            torch.testing.assert_close(packed(ids), plain(ids), atol=1e-4, rtol=1e-4)
            logits = packed.logits(packed(ids))
            torch.testing.assert_close(logits, plain.logits(plain(ids)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_so_they_are_with_a_cache_token_by_token(kind: str) -> None:
    plain, packed = both(kind)
    ids = torch.randint(0, SHAPE.vocab_size, (2, 30))
    cache = Cache(plain.shape, 2, 30, torch.float32, torch.device("cpu"))
    parts = [packed(part, cache=cache) for part in ids.split([10, 1, 1, 5, 1, 1, 11], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), plain(ids), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_in_bfloat16_both_are_as_near_to_float32() -> None:
    exact = make_model().eval()
    plain, packed = both("usual", dtype=torch.bfloat16)
    ids = torch.randint(0, SHAPE.vocab_size, (4, 40))
    expected = exact(ids)
    off_plain, off_packed = ((model(ids).float() - expected).pow(2).mean().sqrt() for model in (plain, packed))
    assert 0 < off_packed < 1.2 * off_plain
    assert off_plain < 0.2 * expected.pow(2).mean().sqrt()


def test_generated_tokens_are_the_plain_ones() -> None:
    plain, packed = both("usual")
    for prompt, said, expected in zip(
        PROMPTS, generate(packed, PROMPTS, 20, NO_EOS), generate(plain, PROMPTS, 20, NO_EOS), strict=True
    ):
        assert_same_but_for_near_ties(plain, Request(prompt, 20, []), said.ids, expected.ids)


def test_the_engine_says_the_plain_tokens() -> None:
    plain, packed = both("usual")
    rng = random.Random(0)
    requests = [random_request(rng) for _ in range(20)]
    said = serve(Engine(packed, max_rows=5), requests, rng)
    for place, request in enumerate(requests):
        expected = generate(plain, [request.prompt], request.max_new_tokens, NO_EOS)[0]
        assert_same_but_for_near_ties(plain, request, tokens(said[place]), expected.ids)


def test_no_matrix_is_held_twice_but_the_heads() -> None:
    plain, packed = both("usual")
    left = sum(weight.numel() for weight in packed.parameters())
    assert left == plain.embed_tokens.weight.numel()  # norms are kept as what they multiply by


def test_a_prepared_model_is_left_as_it_is() -> None:
    packed = both("usual")[1]
    parts = list(packed.modules())
    assert pack(packed) is packed
    assert list(packed.modules()) == parts


@pytest.mark.parametrize("size", [1.0, 1e3, 1e-3, 1e-6, 0.0])
def test_the_short_norm_is_torchs_where_the_numbers_are_small_too(size: float) -> None:
    torch.manual_seed(0)
    norms = [RMSNorm(48, 1e-5) for _ in range(3)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
    x_BTHE = torch.randn(2, 5, 3, 48) * size
    expected = torch.stack([norm(x_BTHE[:, :, i]) for i, norm in enumerate(norms)], dim=2)
    torch.testing.assert_close(Norm(norms)(x_BTHE), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(Norm(norms[:1])(x_BTHE), norms[0](x_BTHE), rtol=1e-5, atol=1e-7)
