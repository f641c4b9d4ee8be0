"""Run folders: what `ckpt6` means, and that a finished stage refuses other settings."""

from pathlib import Path

import pytest

from common.errors import UserError
from common.runs import (
    checkpoints,
    claim,
    claimed,
    find_checkpoint,
    find_checkpoints,
    locked,
    newest_run,
    read_config,
    run_folder,
)

SECTIONS = {"source": [{"path": "a.csv", "weight": 1.0}], "prepare": {"seed": 0}, "tokenizer": {"vocab_size": None},
            "model": {"preset": "tiny"}, "train": {"epochs": 3, "micro_batch": None}}  # fmt: skip


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        (Path("runs") / name).mkdir(parents=True)
        (Path("runs") / name.split("/")[0] / "config.toml").touch()


def finished(stage_file: str) -> None:
    path = Path("runs/a") / stage_file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_checkpoint_name_is_a_path_first_then_of_the_run_then_of_the_newest_run() -> None:
    make("a/ckpt1", "b/ckpt1")
    assert find_checkpoint("runs/a/ckpt1") == Path("runs/a/ckpt1")
    assert find_checkpoint("a/ckpt1") == Path("runs/a/ckpt1")
    assert find_checkpoint("ckpt1", run="b") == Path("runs/b/ckpt1")
    assert find_checkpoint("a/ckpt1", run="b") == Path("runs/a/ckpt1")  # beside one of --run
    assert find_checkpoint("ckpt1") == newest_run() / "ckpt1"
    Path("ckpt1").mkdir()
    assert find_checkpoint("ckpt1", run="b") == Path("ckpt1")


def test_a_missing_checkpoint_names_those_that_exist() -> None:
    make("a/ckpt2", "a/ckpt10", "a/step-000007")
    with pytest.raises(UserError, match="ckpt2, ckpt10, step-000007"):
        find_checkpoint("ckpt6", run="a")
    with pytest.raises(UserError, match=r"ckpt1: there is no run nope in .*; there are a$"):
        find_checkpoint("ckpt1", run="nope")
    with pytest.raises(UserError, match="runs/a holds ckpt2"):
        find_checkpoint("a/ckpt6", run="b")
    with pytest.raises(UserError, match="b/ckpt1: there is no run b"):
        find_checkpoint("b/ckpt1")
    make("ckpt9", "../ckpt9")
    for outside in ("../ckpt9", "/nope", "/nope/ckpt1", "a/../ckpt9"):
        with pytest.raises(UserError, match=f"^{outside}: no such folder$"):
            find_checkpoint(outside)
    for empty in ("", " "):
        with pytest.raises(UserError, match="an empty name is no checkpoint"):
            find_checkpoint(empty)


def test_no_run_at_all_names_the_command() -> None:
    with pytest.raises(UserError, match=r"train\.py"):
        find_checkpoint("ckpt1")


def test_temporary_folders_are_no_checkpoints() -> None:
    make("a/ckpt1", "a/.ckpt2.99.tmp", "a/ckpt3.old")
    assert [path.name for path in checkpoints(Path("runs/a"))] == ["ckpt1"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_run_name_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(UserError, match="--run"):
        run_folder(name)


def test_config_toml_comes_back_as_it_was_given() -> None:
    claim("a", SECTIONS)
    assert read_config(Path("runs/a/config.toml")) == {
        "source": [{"path": "a.csv", "weight": 1.0}], "prepare": {"seed": 0}, "tokenizer": {},
        "model": {"preset": "tiny"}, "train": {"epochs": 3},
    }  # fmt: skip


def test_settings_may_change_until_their_stage_has_output() -> None:
    claim("a", SECTIONS)
    finished("corpus/manifest.json")
    claim("a", {**SECTIONS, "train": {"epochs": 10}, "tokenizer": {"vocab_size": 512}})
    assert read_config(Path("runs/a/config.toml"))["train"] == {"epochs": 10}


@pytest.mark.parametrize(
    ("stage_file", "section", "value", "said"),
    [
        ("corpus/manifest.json", "prepare", {"seed": 1}, "seed: 0 -> 1"),
        ("corpus/manifest.json", "source", [], "1 sources -> 0 sources"),
        ("corpus/manifest.json", "source", [{"path": "b.csv", "weight": 1.0}], "path: 'a.csv' -> 'b.csv'"),
        ("tokenizer/tokenizer.json", "tokenizer", {"vocab_size": 512}, "vocab_size: 'unset' -> 512"),
        ("metrics.jsonl", "train", {"epochs": 10}, "epochs: 3 -> 10"),
        ("metrics.jsonl", "model", {"preset": "small"}, "preset: 'tiny' -> 'small'"),
    ],
)
def test_a_finished_stage_refuses_other_settings_and_names_run(
    stage_file: str, section: str, value: object, said: str
) -> None:
    claim("a", SECTIONS)
    finished(stage_file)
    before = Path("runs/a/config.toml").read_bytes()
    with pytest.raises(UserError, match="--run") as caught:
        claim("a", {**SECTIONS, section: value})
    assert said in str(caught.value)
    assert Path("runs/a/config.toml").read_bytes() == before
    claim("a", SECTIONS)  # the same settings go on


def test_settings_that_only_change_the_speed_may_differ() -> None:
    claim("a", SECTIONS)
    finished("metrics.jsonl")
    claim("a", {**SECTIONS, "train": {"epochs": 3, "micro_batch": 4}})


def test_broken_toml_is_one_line() -> None:
    Path("x.toml").write_text("[train\nepochs = 3")
    with pytest.raises(UserError, match=r"x\.toml: not valid TOML"):
        read_config(Path("x.toml"))
    with pytest.raises(UserError, match="no such configuration file"):
        read_config(Path("missing.toml"))


def test_what_a_later_stage_recorded_does_not_concern_an_earlier_one_and_stays() -> None:
    claim("a", SECTIONS)
    finished("metrics.jsonl")
    claim("a", {**SECTIONS, "train": {"epochs": 10}}, stage="prepare")
    assert read_config(Path("runs/a/config.toml"))["train"] == {"epochs": 3}


@pytest.mark.parametrize("output", ["metrics.jsonl", "ckpt1/model.safetensors", "step-000003/loam.json"])
def test_any_trace_of_training_freezes_its_settings(output: str) -> None:
    claim("a", SECTIONS)
    finished(output)
    with pytest.raises(UserError, match="epochs: 3 -> 10"):
        claim("a", {**SECTIONS, "train": {"epochs": 10}})


def test_a_mistake_in_a_stage_leaves_the_settings_as_they_were() -> None:
    claim("a", SECTIONS)
    before = Path("runs/a/config.toml").read_bytes()
    other = {**SECTIONS, "tokenizer": {"vocab_size": 9}}
    with pytest.raises(UserError, match="too large"), claimed("a", other, "tokenizer"):
        raise UserError("too large")
    assert Path("runs/a/config.toml").read_bytes() == before


def test_a_run_that_is_in_use_is_refused_with_who_holds_it() -> None:
    with locked(Path("runs/a")), pytest.raises(UserError, match="in use by process"), locked(Path("runs/a")):
        pass
    with locked(Path("runs/a")):
        pass


def test_what_a_kill_left_behind_is_cleared_and_a_half_done_rename_is_undone() -> None:
    for name in (".ckpt1.99.tmp", ".ckpt2.99.old", ".ckpt3.99.old", "ckpt3", "tokens"):
        (Path("runs/a") / name).mkdir(parents=True)
    Path("runs/a/tokens/.train.bin.99.tmp").touch()
    with locked(Path("runs/a")):
        assert sorted(p.name for p in Path("runs/a").iterdir()) == [".lock", "ckpt2", "ckpt3", "tokens"]
        assert list(Path("runs/a/tokens").iterdir()) == []


def test_a_range_is_all_epochs_that_the_run_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/ckpt1", "a/ckpt2", "a/ckpt4", "a/ckpt10", "a/step-000123", "a/ckpt1-4", "b/ckpt1"):
        (Path("runs") / name).mkdir(parents=True)
    own = [Path("runs/a") / f"ckpt{n}" for n in (1, 2, 4, 10)]
    assert find_checkpoints("ckpt1..ckpt10", "a") == own
    assert find_checkpoints("ckpt2..4", "a") == own[1:3]
    assert find_checkpoints("a/ckpt1..ckpt4") == own[:3]
    assert find_checkpoints("runs/a/ckpt4..ckpt4") == [own[2]]
    assert find_checkpoints("ckpt1-4", "a") == [Path("runs/a/ckpt1-4")]
    assert find_checkpoints("ckpt2", "a") == [own[1]]
    with pytest.raises(UserError, match=r"as in a/ckpt2\.\.ckpt4"):
        find_checkpoints("a/ckpt4..ckpt2")
    with pytest.raises(UserError, match="no such checkpoint as ckpt9; runs/a holds ckpt1, ckpt2, ckpt4"):
        find_checkpoints("ckpt1..ckpt9", "a")
    with pytest.raises(UserError, match="ckpt3: no such checkpoint"):
        find_checkpoints("ckpt3..ckpt10", "a")
