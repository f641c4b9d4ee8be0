"""A Ray cluster of two machines (two of Ray's nodes here, of one CPU each, on loopback): the results of one machine."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CORPORA = os.environ.get("LOAM_CORPORA")

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install -e '.[dist]'")

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

node = dict(num_cpus=1, include_dashboard=False, object_store_memory=200 << 20, node_ip_address="127.0.0.2")
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()  # until who started it ends
cluster.shutdown()
"""

MAPPED = """
import os, sys
from functools import partial
import pyarrow as pa
import ray
from common.errors import UserError, run_command
from data.engine import map_rows

SCHEMA = pa.schema([("number", pa.int64()), ("reader", pa.string()), ("worker", pa.string())])

def here():
    return f"{ray.get_runtime_context().get_node_id()} {os.getpid()}"

def made(first, number, error=None):
    for i in range(first, first + number):
        yield f"{i}\\t{here()}\\t{'x' * WIDTH}"
    if error is not None:
        raise error

def work(rows):
    parts = [row.split("\\t") for row in rows]
    numbers = [int(part[0]) for part in parts]
    if 777 in numbers:
        raise ValueError("row 777 cannot be worked on")
    columns = [numbers, [part[1] for part in parts], [here()] * len(rows)]
    return pa.RecordBatch.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA)], schema=SCHEMA)

def run(*pieces, files=()):
    return map_rows(pieces, work, SCHEMA, 0, "ray", files)

WIDTH = 100
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ray")
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=environment(folder),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "errors").open("w"),
    ) as process:
        try:
            assert process.stdout is not None
            # Ray says a line or two of its own.
            said = next((line.strip() for line in process.stdout if line.startswith("127.0.0.2:")), "")
            assert said, (folder / "errors").read_text()
            yield said
            process.communicate(timeout=60)
        finally:
            process.kill()


def environment(folder: Path, address: str = "") -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the home folder; nobody else is on loopback
        "RAY_ADDRESS": address,
        "TMPDIR": str(folder),
        "RAY_TMPDIR": "/tmp",  # names of sockets there may have 107 characters
    }


def on(address: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, *command)
    return subprocess.run(
        command, cwd=folder, env=environment(folder, address), capture_output=True, text=True, timeout=180
    )


def mapped(address: str, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(MAPPED + code)
    return on(address, folder, "script.py")


def test_both_machines_read_and_work_and_every_row_comes_once(address: str, tmp_path: Path) -> None:
    code = """
import json
pieces = [partial(made, i * 3000, 3000) for i in range(1, 9)]
found = [row for batch in run(*pieces) for row in batch.to_pylist()]
print(json.dumps(found))
"""
    done = mapped(address, tmp_path, code)
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert sorted(row["number"] for row in rows) == [*range(3000, 27_000)]
    for role in ("reader", "worker"):
        machines = Counter(row[role].split()[0] for row in rows)
        assert len(machines) == 2, role  # whoever is free takes the next piece: how many each has is chance


def test_no_pieces_empty_ones_and_many_small_ones(address: str, tmp_path: Path) -> None:
    code = """
for pieces in ([], [partial(made, 0, 0)] * 3, [partial(made, 1000 + i, 1) for i in range(100)]):
    print(sum(batch.num_rows for batch in run(*pieces)))
"""
    done = mapped(address, tmp_path, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n0\n100\n", "")


def test_an_error_on_a_machine_reaches_the_caller(address: str, tmp_path: Path) -> None:
    code = """
def main():
    try:
        for _ in run(partial(made, 5000, 2000), partial(made, 0, 3000)):
            pass
    except Exception as error:
        print("row 777 cannot be worked on" in str(error))
    for _ in run(partial(made, 5000, 2000), partial(made, 1000, 3000, ValueError("line 3000 cannot be read"))):
        pass
run_command(main)
"""
    done = mapped(address, tmp_path, code)
    assert done.returncode == 1
    assert "True" in done.stdout.splitlines()  # among Ray's own lines on processes that it ended
    assert "line 3000 cannot be read" in done.stderr


@pytest.mark.parametrize("seen", [True, False])
def test_a_file_that_a_machine_does_not_see_as_this_one_does_is_said(address: str, tmp_path: Path, seen: bool) -> None:
    """All machines of the test see all files; one of another size stands for one that is elsewhere."""
    (tmp_path / "a.txt").write_text("abc")
    code = f"""
import data.engine as engine
from pathlib import Path

if not {seen}:
    asked = engine._seen_by_all
    engine._seen_by_all = lambda nodes, sizes: asked(nodes, {{name: size + 1 for name, size in sizes.items()}})

def main():
    print(sum(batch.num_rows for batch in run(partial(made, 1000, 10), files=[Path("a.txt")])))
run_command(main)
"""
    done = mapped(address, tmp_path, code)
    if seen:
        assert (done.returncode, done.stdout, done.stderr) == (0, "10\n", "")
    else:
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert line.startswith(f"error: --engine ray: machine 127.0.0.2 does not see {tmp_path / 'a.txt'}: ")


@pytest.mark.parametrize(
    ("named", "said"),
    [("127.0.0.3:1", "nobody answers at RAY_ADDRESS 127.0.0.3:1 ("), ("", "name the cluster in RAY_ADDRESS")],
)
def test_no_cluster_is_one_line(tmp_path: Path, named: str, said: str) -> None:
    (tmp_path / "a.txt").write_text("A text.")
    done = on(named, tmp_path, str(REPOSITORY / "data/audit.py"), "a.txt", "--engine", "ray")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: --engine ray: {said}")


# -- the audit


def write_rows(path: Path, number: int) -> None:
    """Rows with defects of many kinds: copies, templates, HTML, broken text, a sentence that many hold."""
    words = random.Random(path.name).choices(Path(random.__file__).read_text().split(), k=100_000)
    draw = random.Random(number)
    lines = ["question,answer"]
    for i in range(number):
        start = draw.randrange(90_000)
        text = " ".join(words[start : start + draw.randrange(10, 60)]).replace('"', "'")
        lines.append(
            draw.choice(
                [
                    f'"What of {text}?","{text[::-1]}."',
                    f'"What is {i} plus {i + 1}?","The sum of {i} and {i + 1} is {2 * i + 1}."',
                    f'"How {text}?","<p>{text}</p> cafÃ© I hope that this answer helps you on your way."',
                    f'"Why {text}?","{lines[-1].split(",")[-1].strip(chr(34))}"',
                    lines[-1],
                    '"",""',
                ]
            )
        )
    path.write_text("\n".join(lines) + "\n")


def audited(folder: Path, address: str, engine: str, files: list[str]) -> dict[str, Any]:
    """The audit as a user types it; each piece's reader leaves a file with the name of its process."""
    script = f"""
import os, sys, time, uuid
from pathlib import Path
import data.audit as command
import data.gather as gather
from common.errors import run_command

original = gather._rows_of

def rows_of(file, source, number):
    import ray
    node = ray.get_runtime_context().get_node_id() if {engine == "ray"} else "here"
    (Path({str(folder)!r}) / f"seen-{engine}-{{node}}-{{uuid.uuid4().hex}}").touch()
    time.sleep(0.5)  # a machine that is busy leaves the next piece to the other
    yield from original(file, source, number)

gather._rows_of = rows_of
sys.argv = ["data/audit.py", *{files!r}, "--engine", "{engine}", "--out", "{engine}"]
run_command(command.main)
"""
    (folder / "script.py").write_text(script)
    done = on(address, folder, "script.py")
    assert (done.returncode, done.stderr) == (0, "")
    content = (folder / engine / "audit.json").read_bytes()
    return {"content": content, "page": (folder / engine / "audit.html").read_bytes()}


def assert_same(folder: Path, address: str, files: list[str]) -> None:
    native, ray = (audited(folder, address, engine, files) for engine in ("native", "ray"))
    assert native == ray
    machines = Counter(path.name.split("-")[2] for path in folder.glob("seen-ray-*"))
    assert len(machines) == 2
    assert sum(machines.values()) == len(files)


def test_an_audit_is_the_same_byte_for_byte(address: str, tmp_path: Path) -> None:
    names = [f"{i}.csv" for i in range(6)]
    for i, name in enumerate(names):
        write_rows(tmp_path / name, 1000 + 200 * i)
    assert_same(tmp_path, address, names)
    found = json.loads((tmp_path / "ray" / "audit.json").read_text())
    kinds = {finding["kind"] for finding in found["findings"] if finding["count"] >= 10}
    assert {"exact_duplicate", "template", "empty", "markup", "mojibake", "boilerplate"} <= kinds


@pytest.mark.skipif(CORPORA is None, reason="LOAM_CORPORA names no corpora")
def test_an_audit_of_real_text_is_the_same_byte_for_byte(address: str, tmp_path: Path) -> None:
    names = ["human/gsm8k_test.jsonl.gz", "books/84_frankenstein_or_the_modern_prometheus.txt.gz",
             "human/gsm8k_test_socratic.jsonl.gz", "books/345_dracula.txt.gz"]  # fmt: skip
    for name in names:
        (tmp_path / Path(name).name).symlink_to(Path(str(CORPORA)) / name)
    assert_same(tmp_path, address, [Path(name).name for name in names])


# -- prepare

TOML = """
[[source]]
path = "*.csv"

[prepare]
steps = ["html_to_text", "fix_mojibake", "empty", "too_short", "exact_duplicate", "near_duplicate", "template",
         "cut_boilerplate"]
"""


def test_a_corpus_is_the_same_byte_for_byte(address: str, tmp_path: Path) -> None:
    """With steps that are fitted, and one that changes rows of the store in the other machines' sight."""
    for i in range(6):
        write_rows(tmp_path / f"{i}.csv", 1000 + 200 * i)
    (tmp_path / "my.toml").write_text(TOML)
    found = []
    for engine in ("native", "ray"):
        command = [str(REPOSITORY / "data/prepare.py"), "--config", "my.toml", "--run", engine, "--engine", engine]
        done = on(address, tmp_path, *command)
        assert (done.returncode, done.stderr) == (0, "")
        files = {path.name: path.read_bytes() for path in (tmp_path / "runs" / engine / "corpus").iterdir()}
        manifest = json.loads(files.pop("manifest.json"))
        assert manifest["config"].pop("engine") == engine
        found.append((files, manifest))
    assert found[0] == found[1]
    assert {"exact_duplicate", "template", "empty"} <= set(found[0][1]["quarantine"]["reasons"])
