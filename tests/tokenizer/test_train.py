"""tokenizer/train.py as a user calls it: finished tokenizers, settings that contradict each other, what it says."""

import json
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from tests.tokenizer.test_bring import byte_level, nfc, spm_model
from tokenizer.bpe import load_tokenizer
from tokenizer.train import main

ROWS = "q,a\n" + "".join(f"What is the number {i} times {i}?,It is {i * i} and nothing else.\n" for i in range(60))
TOML = '[[source]]\npath = "a.csv"\nquestion = "q"\nanswer = "a"\n'


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a configuration and its data; the command runs in another one, `work`."""
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "data" / "a.csv").write_text(ROWS)
    (tmp_path / "data" / "my.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "data"


def call(monkeypatch: pytest.MonkeyPatch, corpus: Path, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", ["tokenizer/train.py", "--config", str(corpus / "my.toml"), *flags])
    main()


def test_a_finished_tokenizer_beside_the_configuration_is_found(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spm_model(corpus / "own.model")
    (corpus / "my.toml").write_text(TOML + '[tokenizer]\nfile = "own.model"\n')
    call(monkeypatch, corpus)
    assert load_tokenizer(Path("runs/my/tokenizer")).native is not None
    (corpus / "own.model").unlink()
    call(monkeypatch, corpus)  # the run has it


def test_a_folder_of_both_files_gives_the_model_too(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spm_model(corpus / "tokenizer.model")
    byte_level(corpus / "tokenizer.json")
    call(monkeypatch, corpus, "--file", str(corpus))
    assert load_tokenizer(Path("runs/my/tokenizer")).backend == "sentencepiece"
    spm_model(corpus / "tokenizer.model", model_type="unigram", vocab_size=290, hard_vocab_limit=False)
    call(monkeypatch, corpus, "--file", str(corpus), "--run", "other")
    assert load_tokenizer(Path("runs/other/tokenizer")).backend == "tokenizers"
    assert "is a UNIGRAM model" in capsys.readouterr().out  # told, not passed over


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--file", "none.json"), r"^file none\.json: not found, here or in "),
        (("--file", ""), "file: a path is needed"),
        (("--file", "FOLDER/nfc.json"), r"^\S*/nfc\.json: its normaliser"),
        (("--file", "FOLDER/empty.json"), r"^\S*/empty\.json is damaged"),
        (("--sweep", "300,400", "--against", "x.json"), "name one of them"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_corpus_is_prepared(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], said: str
) -> None:
    byte_level(corpus / "nfc.json", nfc)
    (corpus / "empty.json").write_text("")
    with pytest.raises(UserError, match=said) as error:
        call(monkeypatch, corpus, *(flag.replace("FOLDER", str(corpus)) for flag in flags))
    assert str(error.value).count("json") <= 2
    assert not Path("runs").exists()


def test_fewer_tokens_than_the_default_are_told(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, corpus)
    tok = load_tokenizer(Path("runs/my/tokenizer"))
    assert tok.vocab_size < 512
    assert f"vocabulary: {tok.vocab_size:,} tokens, as the text supports no more" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[1]", "", None])
def test_a_damaged_tokenizer_config_is_found_where_the_tokenizer_is_there(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    call(monkeypatch, corpus)
    file = Path("runs/my/tokenizer/tokenizer_config.json")
    assert json.loads(file.read_text())["chat_template"]
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(UserError, match=r"tokenizer_config\.json.*(damaged|not found)"):
        call(monkeypatch, corpus)
