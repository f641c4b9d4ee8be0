"""One configuration: file and flags agree on names and types, and every mistake is one line that names its place."""

import typing
from pathlib import Path

import pytest
import tomli_w

from common.errors import UserError
from common.runs import read_config
from config import SECTIONS, Config, load_command
from data.sources import SourceConfig


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(*argv: str, toml: str | None = None, section: str | None = "train") -> Config:
    if toml is None:
        return load_command(section, argv=list(argv))
    Path("my.toml").write_text(toml)
    return load_command(section, argv=["--config", "my.toml", *argv])


def test_without_a_file_and_flags_everything_has_a_default() -> None:
    config = load()
    assert config.run == "default"
    assert config.source == []
    assert config.train.epochs == 10


def test_own_section_is_flat_others_are_dotted_and_flags_override_the_file() -> None:
    config = load(
        "--epochs", "5", "--model.seq-len", "64", toml="[train]\nepochs = 3\nlr = 1\n[model]\npreset = 'small'"
    )
    assert (config.train.epochs, config.train.lr) == (5, 1.0)
    assert (config.model.preset, config.model.seq_len) == ("small", 64)
    assert config.run == "my"
    assert config.base == Path(".")


def test_a_command_without_a_section_of_its_own_takes_all_of_the_files() -> None:
    config = load(toml="[train]\nlr = 1\n[model]\nseq_len = 64\n[tokenizer]\nvocab_size = 512", section=None)
    assert (config.train.lr, config.model.seq_len, config.tokenizer.vocab_size) == (1.0, 64, 512)


def claim(config: Config, stage: str = "train") -> None:
    with config.claimed(stage):
        pass


@pytest.mark.parametrize("flag", ["--batch_tokens", "--batch-tokens", "--batch-tokens="])
def test_dashes_and_underscores_are_the_same_in_flags(flag: str) -> None:
    argv = [flag + "4096"] if flag.endswith("=") else [flag, "4096"]
    assert load(*argv).train.batch_tokens == 4096


def test_a_preset_on_the_command_line_names_the_sizes_of_the_file_that_go_before_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = "[model]\nseq_len = 64\nnum_layers = 2\ndropout = 0.1"
    config = load("--model.preset", "1b", "--model.num-layers=3", toml=sizes)
    assert (config.model.preset, config.model.num_layers, config.model.seq_len) == ("1b", 3, 64)
    said = "note: --model.preset 1b, but my.toml has seq_len = 64 in [model], which go before a preset\n"
    assert capsys.readouterr().out == said
    for argv, toml in ((["--model.preset", "1b"], "[model]\ndropout = 0.1"), (["--epochs", "3"], sizes)):
        load(*argv, toml=toml)
        assert capsys.readouterr().out == ""


def test_run_name_is_another_word_for_run() -> None:
    """torchrun on Python 3.11 takes `--run` behind the script for an abbreviation of its own --run-path."""
    assert load("--run-name", "a").run == load("--run", "a").run == "a"


def test_sources_are_read_in_order_with_their_types() -> None:
    config = load(toml="[[source]]\npath = 'a.csv'\n[[source]]\npath = 'b.txt'\nkind = 'text'\nweight = 2")
    assert [(s.path, s.kind, s.weight) for s in config.source] == [("a.csv", "qa", 1.0), ("b.txt", "text", 2.0)]


@pytest.mark.parametrize(
    ("argv", "toml", "said"),
    [
        (["--epochs", "ten"], None, "--epochs: expected a whole number, got 'ten'"),
        (["--epochs", "0"], None, "epochs 0: must be more than 0"),
        (["--epochs", "1000000000000"], None, "epochs 1000000000000: must be 1,000,000 or fewer"),
        (["--batch_tokens", str(2**63)], None, f"batch_tokens {2**63}: must be less than 2**63"),
        (["--samples", "1" + "0" * 400], None, "samples far too large: must be less than 2**63"),
        ([], "[train]\nlr = inf", "lr inf: must be 1e+09 or less"),
        (["--lr", "1e308"], None, "lr 1e+308: must be 1e+09 or less"),
        (["--epochs", "2.5"], None, "--epochs: expected a whole number, got '2.5'"),
        (["--precision", "fp16"], None, "--precision: expected one of auto, bf16, fp32, got 'fp16'"),
        (["--model.seq_len", "x"], None, "--model.seq_len: expected a whole number, got 'x'"),
        (["--bogus", "1"], None, "--bogus"),
        (["--epoch", "1"], None, "--epoch"),
        (["stray"], None, "stray"),
        (["--model", "my.toml"], None, "unrecognized arguments: --model my.toml"),
        ([], "[train]\nepochs = 'ten'", "my.toml: [train] epochs: expected a whole number, got 'ten'"),
        ([], "[train]\nepochs = '3'", "my.toml: [train] epochs: expected a whole number, got '3'"),
        ([], "[train]\nepochs = true", "my.toml: [train] epochs: expected a whole number, got"),
        ([], "[train]\nepoch = 3", "my.toml: [train] unknown key 'epoch'"),
        ([], "[trian]\nepochs = 3", "my.toml: unknown section or key 'trian'"),
        ([], "epochs = 3", "my.toml: unknown section or key 'epochs'"),
        ([], "train = 3", "my.toml: 'train' is a section"),
        ([], "[source]\npath = 'a.csv'", "[[source]], with two brackets"),
        ([], "[[source]]\npath = 'a'\n[[source]]\nkind = 'qa'", "my.toml: [[source]] number 2: path is missing"),
        ([], "[[source]]\npath = 'a.csv'\nwieght = 2", "[[source]] number 1 unknown key 'wieght'"),
        ([], "[train\n", "my.toml: not valid TOML"),
        (["--config", "missing.toml"], None, "missing.toml: no such configuration file"),
        (["--run", "../up"], None, "--run '../up'"),
        (["--run", ""], None, "--run ''"),
        (["--run="], None, "--run ''"),
        (["--run-name", ""], "[train]\nepochs = 3", "--run ''"),
        (["--tokenizer.vocab_size", "1000001"], None, "vocab_size 1000001: 1,000,000 or fewer are possible"),
        ([], "[tokenizer]\nvocab_size = 999_999_999", "vocab_size 999999999: 1,000,000 or fewer are possible"),
        (["--eval.resamples", "99999999999"], None, "resamples 99999999999: must be 1,000,000 or fewer"),
        (["--lr", "1e-3", "--min_lr", "1"], None, "min_lr 1.0: is more than lr 0.001"),
        (["--lr", "nan"], None, "--lr: expected a number, got 'nan'"),
        ([], "[train]\nlr = nan", "lr nan: must be more than 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_its_place(argv: list[str], toml: str | None, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load(*argv, toml=toml)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_largest_values_that_a_run_can_want_are_taken() -> None:
    config = load("--epochs", "1000000", "--tokenizer.vocab_size", "1000000", "--eval.resamples", "1000000")
    assert (config.train.epochs, config.tokenizer.vocab_size, config.eval.resamples) == (10**6, 10**6, 10**6)


def test_a_run_remembers_its_settings() -> None:
    claim(load("--run", "a", "--lr", "0.5", toml="[train]\nepochs = 3"))
    assert read_config(Path("runs/a/config.toml"))["train"]["lr"] == 0.5
    again = load_command("train", argv=["--run", "a"])
    assert (again.train.epochs, again.train.lr) == (3, 0.5)


def test_relative_sources_still_point_to_their_files_from_the_runs_own_config() -> None:
    Path("sub").mkdir()
    Path("sub/my.toml").write_text("[[source]]\npath = 'd/a.csv'\nquestion = 'q'\nanswer = 'a'")
    claim(load_command("train", argv=["--config", "sub/my.toml", "--run", "a"]))
    again = load_command("train", argv=["--run", "a"])
    assert (again.base / again.source[0].path).resolve() == Path("sub/d/a.csv").resolve()
    claim(again)


def test_help_names_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load("--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "--epochs" in out
    assert "passes over the training split" in out
    assert "--model.preset" in out


def test_a_flag_of_a_finished_stage_need_not_be_repeated_but_may_not_change() -> None:
    claim(load("--vocab_size", "300", toml="[train]\nepochs = 3", section="tokenizer"), "tokenizer")
    assert load(toml="[train]\nepochs = 3").tokenizer.vocab_size is None  # nothing was made yet
    Path("runs/my/tokenizer").mkdir(parents=True)
    Path("runs/my/tokenizer/tokenizer.json").touch()
    claim(load(toml="[train]\nepochs = 3"))
    assert load(toml="[train]\nepochs = 3").tokenizer.vocab_size == 300
    with pytest.raises(UserError, match="vocab_size: 300 -> 400"):
        claim(load("--tokenizer.vocab_size", "400", toml="[train]\nepochs = 3"))


OLDER = """[[source]]
path = 'd/a.csv'
question = 'q'
"""


def without(file: Path, *keys: str) -> None:
    """The file as a version wrote it that did not know these keys."""
    record = read_config(file)
    sections = [*record["source"], *(section for name, section in record.items() if name != "source")]
    removed = [section.pop(key) for section in sections for key in keys if key in section]
    assert len(removed) == len(keys)
    file.write_text(tomli_w.dumps(record))


@pytest.mark.parametrize(
    ("key", "flag", "said"),
    [
        ("canaries", ("--prepare.canaries", "6"), "[prepare] canaries: 0 -> 6"),
        ("canary_copies", ("--prepare.canary_copies", "[1]"), "[prepare] canary_copies: [0, 1, 2, 4, 8, 16] -> [1]"),
        ("warmup_ratio", ("--warmup_ratio", "0.2"), "[train] warmup_ratio: 0.05 -> 0.2"),
    ],
)
def test_a_key_that_the_record_is_older_than_was_what_it_is_by_default(
    key: str, flag: tuple[str, str], said: str
) -> None:
    claim(load(toml=OLDER))
    record = Path("runs/my/config.toml")
    for output in ("corpus/manifest.json", "tokenizer/tokenizer.json", "metrics.jsonl"):
        (record.parent / output).parent.mkdir(exist_ok=True)
        (record.parent / output).touch()
    without(record, key)
    claim(load(toml=OLDER))  # the same settings go on, and are recorded whole
    assert f"\n{key} = " in record.read_text()
    without(record, key)
    with pytest.raises(UserError) as caught:
        claim(load(*flag, toml=OLDER))
    assert said in str(caught.value)


def test_a_key_of_a_source_that_the_record_is_older_than_was_what_it_is_by_default() -> None:
    claim(load(toml=OLDER))
    record = Path("runs/my/config.toml")
    (record.parent / "corpus").mkdir()
    (record.parent / "corpus" / "manifest.json").touch()
    without(record, "weight", "encoding")
    claim(load(toml=OLDER))
    without(record, "weight", "encoding")
    with pytest.raises(UserError, match=r"number 1: weight: 1\.0 -> 2\.0"):
        claim(load(toml=OLDER + "weight = 2.0\n"))


def test_what_can_be_left_unset_is_unset_by_default() -> None:
    """Else a record could not say that it was unset on purpose: TOML has no null."""
    for cls in (*SECTIONS.values(), SourceConfig):
        for name, hint in typing.get_type_hints(cls).items():
            assert type(None) not in typing.get_args(hint) or getattr(cls(), name) is None, (cls, name)
