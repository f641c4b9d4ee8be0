"""The commands as a user types them: a mistake is one line on stderr and exit code 2, and nothing is half-written."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CSV = 'path = "a.csv"\nquestion = "q"\nanswer = "a"\n'
GOOD_ROWS = "q,a\n" + "".join(f"What is the number {i} times {i}?,It is {i * i} and nothing else.\n" for i in range(40))


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(REPOSITORY / command[0]), *command[1:]]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def assert_one_clear_line(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert said in errors[0], errors[0]


GZIPPED = f"[[source]]\n{CSV.replace('.csv', '.csv.gz')}"
BAD_DATA: dict[str, tuple[dict[str, str | bytes], str]] = {
    "missing file": ({"my.toml": f"[[source]]\n{CSV}"}, "a.csv"),
    "empty file": ({"my.toml": f"[[source]]\n{CSV}", "a.csv": ""}, "a.csv"),
    "a column that is not there": ({"my.toml": f"[[source]]\n{CSV}", "a.csv": "x,y\n1,2\n"}, "x, y"),
    "only unusable rows": ({"my.toml": f"[[source]]\n{CSV}", "a.csv": "q,a\nwhy?,\n"}, "usable"),
    "binary garbage": ({"my.toml": f"[[source]]\n{CSV}", "a.csv": bytes(range(256)) * 40}, "a.csv"),
    "damaged gzip": (
        {"my.toml": GZIPPED, "a.csv.gz": gzip.compress(GOOD_ROWS.encode())[:60]},
        "a.csv.gz",
    ),
    "unknown key": ({"my.toml": f"[[source]]\n{CSV}", "a.csv": GOOD_ROWS, "extra": ""}, "unknown key 'val_shar'"),
    "too few rows to split": ({"my.toml": f"[[source]]\n{CSV}", "a.csv": "q,a\nWhat is one?,It is one.\n"}, "split"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_one_line_and_writes_no_corpus(tmp_path: Path, case: str) -> None:
    files, said = BAD_DATA[case]
    write(tmp_path, files)
    if case == "unknown key":
        (tmp_path / "my.toml").write_text(f"[[source]]\n{CSV}[prepare]\nval_shar = 0.1\n")
    assert_one_clear_line(run(tmp_path, "data/prepare.py", "--config", "my.toml"), said)
    assert not (tmp_path / "runs" / "my" / "corpus").exists()


def test_ragged_rows_and_broken_lines_go_to_quarantine_and_the_rest_is_prepared(tmp_path: Path) -> None:
    broken = "".join(f'{{"q": "What is {i} plus {i}?", "a": "It makes {2 * i}, I think."}}\n' for i in range(40))
    write(
        tmp_path,
        {
            "my.toml": f'[[source]]\n{CSV}\n[[source]]\npath = "b.jsonl"\nquestion = "q"\nanswer = "a"\n',
            "a.csv": GOOD_ROWS + "one,two,three,four\nonly one field\n",
            "b.jsonl": broken.replace('"It makes 20,', '"It makes 20,"'),
        },
    )
    done = run(tmp_path, "data/prepare.py", "--config", "my.toml")
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    quarantine = pq.read_table(next((tmp_path / "runs/my/corpus").glob("quarantine-*.parquet"))).to_pylist()
    origins = {(row["origin"].split("/")[-1], row["reason"]) for row in quarantine}
    assert {origin for origin, _ in origins} >= {"a.csv:42", "a.csv:43", "b.jsonl:11"}, origins


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train.py", "--epochs", "0"], "epochs 0"),
        (["train.py", "--epochs", "ten"], "--epochs: expected a whole number, got 'ten'"),
        (["train.py", "--config", "missing.toml"], "missing.toml"),
        (["train.py", "--model.preset", "huge"], "seed-126m"),
        (["train.py", "--model.seq_len", "1000000000"], "a step of one row needs about"),
        (["tokenizer/train.py", "--vocab_size", "100"], "262"),
        (["tokenizer/train.py", "--sweep", "1024,512"], "--sweep 1024,512: sizes must ascend"),
        (["eval/compare.py", "ckpt1", "ckpt6"], "no run"),
        (["chat.py", "nowhere"], "no run"),
        (["chat.py", "nowhere", "--seed", "99999999999999999999"], "--seed 99999999999999999999: must be less than"),
        (["export.py", "nowhere", "--to", "gguf"], "no run"),
        (["export.py", "nowhere"], "give one of --to gguf"),
        (["export.py", "nowhere", "--to", "gguf", "--type", "Q4"], "--type Q4: expected one of F32, F16, BF16, Q8_0"),
        (["serve.py", "nowhere"], "no run"),
        (["server/keys.py", "create"], "create: expected one name"),
        (["server/usage.py"], "no such ledger"),
        (["data/prepare.py", "--val_share", "1.5"], "val_share"),
    ],
)
def test_a_bad_request_is_one_line(tmp_path: Path, command: list[str], said: str) -> None:
    assert_one_clear_line(run(tmp_path, *command), said)
    assert not list(tmp_path.rglob("corpus"))  # nothing was made for it


def test_the_whole_way_with_ones_own_data_and_its_later_mistakes(tmp_path: Path) -> None:
    """Prepare, tokenizer, train, compare, chat; then each mistake that needs a run to be made."""
    sizes = {
        "num_layers": 1,
        "hidden_size": 32,
        "num_heads": 2,
        "num_kv_heads": 1,
        "intermediate_size": 64,
        "seq_len": 64,
    }
    small = [f"--model.{name}={size}" for name, size in sizes.items()]
    write(
        tmp_path,
        {"my.toml": f"[prepare]\nval_share = 0.2\ntest_share = 0.2\n[[source]]\n{CSV}", "a.csv": GOOD_ROWS * 3},
    )
    with_config = ["--config", "my.toml"]
    assert_one_clear_line(
        run(tmp_path, "tokenizer/train.py", *with_config, "--vocab_size", "50000"), "support"
    )  # made the corpus first
    assert not (tmp_path / "runs/my/tokenizer").exists()
    for command in (
        ["data/prepare.py"],
        ["tokenizer/train.py", "--vocab_size", "280"],
        ["train.py", "--epochs", "2", "--samples", "1", "--sample_tokens", "4"],
    ):
        flags = small if command[0] == "train.py" else []  # and no --tokenizer.vocab_size: the run remembers it
        done = run(tmp_path, command[0], *with_config, *command[1:], *flags)
        assert done.returncode == 0, done.stderr
        assert "next: " in done.stdout
    done = run(tmp_path, "eval/compare.py", "ckpt1", "ckpt2", "--run", "my", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.json").exists()
    done = run(tmp_path, "chat.py", "ckpt2", "--run", "my", "--question", "What is 3 times 3?", "--max_new_tokens", "5")
    assert done.returncode == 0, done.stderr

    assert_one_clear_line(run(tmp_path, "eval/compare.py", "ckpt1", "ckpt6"), "ckpt1, ckpt2")
    again = ["--run", "my", "--epochs", "5"]
    assert_one_clear_line(run(tmp_path, "train.py", *again), "--run")
    (tmp_path / "runs/my/ckpt1/model.safetensors").write_bytes(b"\0" * 100)
    assert_one_clear_line(
        run(tmp_path, "chat.py", "ckpt1", "--run", "my", "--question", "?"), "ckpt1/model.safetensors"
    )


def test_a_corpus_whose_files_changed_is_not_taken_for_the_same(tmp_path: Path) -> None:
    write(tmp_path, {"my.toml": f"[[source]]\n{CSV}".replace("a.csv", "*.csv"), "a.csv": GOOD_ROWS})
    assert run(tmp_path, "data/prepare.py", "--config", "my.toml").returncode == 0
    again = run(tmp_path, "data/prepare.py", "--config", "my.toml")
    assert "nothing to do" in again.stdout
    write(tmp_path, {"b.csv": GOOD_ROWS})
    assert_one_clear_line(run(tmp_path, "data/prepare.py", "--config", "my.toml"), "b.csv: absent then")
