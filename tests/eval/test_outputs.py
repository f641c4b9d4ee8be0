"""Nothing that the evaluation writes lands in a checkpoint or a corpus, or on a file that is not its own."""

import shutil
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import file_sha256, write_json
from eval import check, compare, tasks
from eval.compare import default_page
from eval.outputs import refuse_file, refuse_inside

from .test_judged import RECORDS, write

QUICK = ["--resamples", "1000", "--num_answers", "1", "--max_new_tokens", "8", "--device", "cpu"]


@pytest.fixture
def mine(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/a in a folder of its own, the working folder; `out` links to its ckpt1."""
    shutil.copytree(run, tmp_path / "runs" / "a")
    (tmp_path / "out").symlink_to("runs/a/ckpt1")
    (tmp_path / "page.html").symlink_to("runs/a/ckpt1/loam.json")
    (tmp_path / "notes.json").write_text('{"checkpoints": "my own"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


PLACES = {
    "runs/a/ckpt1/model.safetensors": "lies in the checkpoint",
    "runs/a/ckpt2/new.json": "lies in the checkpoint",
    "runs/a/ckpt2/trainer/new.json": "lies in the checkpoint",
    "out/new.json": "lies in the checkpoint",
    "page.html": "lies in the checkpoint",
    "runs/a/corpus/manifest.json": "lies in the corpus",
    "runs/a/config.toml": "was not written by this command",
    "runs/a/metrics.jsonl": "was not written by this command",
    "runs/a/tokenizer/tokenizer.json": "was not written by this command",
    "notes.json": "was not written by this command",
    "runs/a": "is a folder",
    "no/where": "its folder does not exist",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["compare --json", "compare --html", "check --json"])
def test_no_output_lands_on_what_is_not_its_own(
    mine: Path, command: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, flag = command.split()
    before = {path: file_sha256(path) for path in mine.rglob("*") if path.is_file()}
    words = {"compare": ["compare.py", "a/ckpt1", "a/ckpt2", *QUICK], "check": ["check.py", "a/ckpt2"]}[name]
    monkeypatch.setattr(sys, "argv", [*words, flag, place])
    with pytest.raises(UserError, match=f"{flag} {place}: .*{PLACES[place]}"):
        {"compare": compare.main, "check": check.main}[name]()
    assert {path: file_sha256(path) for path in mine.rglob("*") if path.is_file()} == before


def test_a_checkpoint_that_lacks_nearly_all_is_one_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text("{}")
    refuse_file("json", tmp_path / "x" / "out.json", [], ["a"])
    with pytest.raises(UserError, match="lies in the checkpoint"):
        refuse_file("json", tmp_path / "x" / "out.json", [tmp_path / "x"], ["a"])


def test_a_command_writes_over_its_own_output_and_not_over_anothers(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compare.py", "a/ckpt1", "a/ckpt2", *QUICK, "--json", "runs/a/compare.json"]
    monkeypatch.setattr(sys, "argv", words)
    compare.main()
    page = default_page([Path("runs/a/ckpt1"), Path("runs/a/ckpt2")])
    before = (Path("runs/a/compare.json").stat().st_mtime_ns, page.stat().st_mtime_ns)
    compare.main()
    assert Path("runs/a/compare.json").stat().st_mtime_ns > before[0]
    assert page.stat().st_mtime_ns > before[1]
    monkeypatch.setattr(sys, "argv", ["check.py", "a/ckpt2", "--json", "runs/a/compare.json"])
    with pytest.raises(UserError, match="was not written by this command"):
        check.main()
    write_json(Path("sound.json"), {"checkpoint": "x", "lines": []})
    refuse_file("json", Path("sound.json"), [], ("checkpoint", "lines"))
    page.write_text("<!doctype html><title>What the audit found</title>")
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(UserError, match=f"--html {page}: is there and was not written"):
        compare.main()


def test_tasks_are_written_beside_runs_and_over_tasks_only(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(mine / "q.jsonl", RECORDS)
    for place, said in (
        ("out", "lies in the checkpoint"),
        ("runs/a/ckpt2/tasks", "lies in the checkpoint"),
        ("runs/a/corpus", "lies in the corpus"),
        ("notes.json", "is a file"),
    ):
        monkeypatch.setattr(sys, "argv", ["tasks.py", "q.jsonl", "--out", place])
        with pytest.raises(UserError, match=f"--out {place}: {said}"):
            tasks.main()
    monkeypatch.setattr(sys, "argv", ["tasks.py", "q.jsonl", "--out", "runs/a/tasks", "--name", "my"])
    tasks.main()
    written = Path("runs/a/tasks/my_answers.jsonl")
    content = written.read_text()
    written.write_text("")
    tasks.main()
    assert written.read_text() == content
    (written.with_suffix(".yaml")).unlink()
    with pytest.raises(UserError, match=r"my_answers\.jsonl: was not written by this command"):
        tasks.main()
    assert written.read_text() == content
    refuse_inside("out", Path("runs/a/tasks"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc")
def test_a_place_where_no_file_can_be_is_said_before_the_work() -> None:
    with pytest.raises(UserError, match="cannot be written there; name another place with --json FILE"):
        refuse_file("json", Path("/proc/x.json"), [], ("a",))


def test_what_no_file_can_be_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop.json").symlink_to("loop.json")
    for place in (Path("loop.json"), Path("x" * 300), Path("x" * 300) / "y"):
        with pytest.raises(UserError, match=f"^--json {place}: "):
            refuse_file("json", place, [], ("a",))


def test_an_empty_file_and_a_folder_beside_weights_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.json").touch()
    Path("stray.safetensors").write_bytes(b"weights")
    (tmp_path / "results").mkdir()
    for place in ("empty.json", "new.json", "results/new.json"):
        refuse_file("json", Path(place), [], ("a",))
    Path("config.json").write_text("{}")  # now the folder is a model
    with pytest.raises(UserError, match="lies in the checkpoint"):
        refuse_file("json", Path("results/new.json"), [], ("a",))


@pytest.mark.parametrize("theirs", ["loam_scores.py", "my_ranking.jsonl", "my_texts.yaml"])
def test_tasks_writes_nothing_where_one_of_its_names_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "q.jsonl", RECORDS)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / theirs).write_text("my own")
    monkeypatch.setattr(sys, "argv", ["tasks.py", "q.jsonl", "--out", "made", "--name", "my"])
    with pytest.raises(UserError, match="was not written by this command"):
        tasks.main()
    assert [path.name for path in (tmp_path / "made").iterdir()] == [theirs]
    assert (tmp_path / "made" / theirs).read_text() == "my own"
