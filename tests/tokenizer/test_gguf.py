"""A tokenizer that llama.cpp would read otherwise has no GGUF, and says why."""

import json
from pathlib import Path

import pytest

from common.errors import UserError
from tests.tokenizer.conftest import TEXTS
from tokenizer.bpe import Tokenizer, load_tokenizer, train_tokenizer
from tokenizer.bring import bring
from tokenizer.config import TokenizerConfig
from tokenizer.gguf import gguf_rules
from tokenizer.spm import schema


def test_both_backends_have_their_rules(tok: Tokenizer) -> None:
    if tok.backend == "sentencepiece":
        assert gguf_rules(tok) == {"tokenizer.ggml.model": "llama"}
    else:
        assert gguf_rules(tok) == {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2"}


@pytest.mark.parametrize(("pattern", "ignored"), [("qwen2", True), ("llama3", False)])
def test_a_token_that_no_merges_make_is_found(tmp_path: Path, pattern: str, ignored: bool) -> None:
    config = TokenizerConfig(vocab_size=400, pattern=pattern)  # type: ignore[arg-type]
    train_tokenizer(iter(TEXTS), 10_000, config, tmp_path / "t")
    file = json.loads((tmp_path / "t" / "tokenizer.json").read_text())
    file["model"]["ignore_merges"] = ignored
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(file))
    gguf_rules(load_tokenizer(tmp_path / "t"))  # all are made by merges
    file["model"]["vocab"]["Ġunmerged"] = len(file["model"]["vocab"])
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(UserError, match="' unmerged' other ids"):
        gguf_rules(load_tokenizer(tmp_path / "t"))


@pytest.mark.parametrize(("pieces", "spelled"), [(["<|user|", ">"], r"<\|user\|>"), (["<0x0", "A>"], "<0x0A>")])
def test_pieces_that_join_to_a_control_or_byte_token_are_found(tmp_path: Path, pieces: list[str], spelled: str) -> None:
    config = TokenizerConfig(vocab_size=320, backend="sentencepiece")
    train_tokenizer(iter(TEXTS), 10_000, config, tmp_path / "t")
    model = schema.ModelProto.FromString((tmp_path / "t" / "tokenizer.model").read_bytes())
    have = {piece.piece for piece in model.pieces}
    for piece in pieces:
        if piece not in have:
            model.pieces.add(piece=piece, score=-10_000, type=schema.ModelProto.SentencePiece.NORMAL)
    (tmp_path / "other.model").write_bytes(model.SerializeToString())
    _, native = bring(tmp_path / "other.model")
    assert native
    train_tokenizer(iter([]), 0, TokenizerConfig(file=str(tmp_path / "other.model")), tmp_path / "o")
    with pytest.raises(UserError, match=f"spells {spelled} as that token"):
        gguf_rules(load_tokenizer(tmp_path / "o"))
    (tmp_path / "o" / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=r"scores of tokenizer\.model"):
        gguf_rules(load_tokenizer(tmp_path / "o"))
