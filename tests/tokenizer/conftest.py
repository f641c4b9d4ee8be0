"""A small tokenizer of each backend, trained once, and texts that broke other people's."""

from pathlib import Path

import pytest

from tokenizer.bpe import Tokenizer, train_tokenizer
from tokenizer.config import TokenizerConfig

TEXTS = [
    "The quick brown fox jumps over the lazy dog. " * 20,
    "def encode(text):\n\treturn [ord(c) for c in text]\n\n" * 20,
    "Größe, naïve café, Ωμέγα, Привет, 你好世界, こんにちは, 한국어, สวัสดี, नमस्ते, مرحبا " * 20,
    "1234567890 3.14159 $E = mc^2$ \\frac{a}{b} \r\n\r\n   spaces   \t tabs " * 20,
]


@pytest.fixture(scope="session", params=["tokenizers", "sentencepiece"])
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    train_tokenizer(iter(TEXTS), 10_000, TokenizerConfig(vocab_size=360, backend=request.param), folder)
    return folder


@pytest.fixture(scope="session")
def tok(tokenizer_folder: Path) -> Tokenizer:
    from tokenizer.bpe import load_tokenizer

    return load_tokenizer(tokenizer_folder)
