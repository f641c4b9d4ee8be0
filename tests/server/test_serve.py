"""The command: what it refuses to serve, what it says, several models, and what it counts."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.conftest import NAME, ROOT, environment, make_checkpoint, server
from training.checkpoint import FILES


def refused(folder: Path, *words: str) -> str:
    """The one line of a command that ends with exit code 2."""
    done = subprocess.run([sys.executable, str(ROOT / "serve.py"), *words], cwd=folder, env=environment(),
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "Traceback" not in done.stderr
    return line


def test_an_unsound_checkpoint_is_refused_with_what_fails_and_served_by_force(tmp_path: Path, checkpoint: Path) -> None:
    damaged = shutil.copytree(checkpoint, tmp_path / "b" / "ckpt1")
    file = damaged / "tokenizer_config.json"
    assert file.name in FILES
    file.write_text(file.read_text() + "\n")
    line = refused(tmp_path, str(damaged), "--quick", "true", "--port", "0")
    assert "b/ckpt1 is not sound (hashes: tokenizer_config.json is not what was written (sha256 differs))" in line
    assert "--force" in line
    with server(tmp_path, damaged, "--force", "true") as running:
        assert any("NOT sound, and served by --force" in said for said in running.said)
        assert [model.id for model in running.client().models.list()] == ["b/ckpt1"]


def test_several_checkpoints_are_several_models(tmp_path: Path, checkpoint: Path) -> None:
    other = make_checkpoint(tmp_path / "b", seq_len=64)
    with server(tmp_path, checkpoint, str(other)) as running, running.client() as client:
        assert [model.id for model in client.models.list()] == [NAME, "b/ckpt1"]
        for name, most in ((NAME, 100), ("b/ckpt1", 63)):
            said = client.completions.create(model=name, prompt=[7], max_tokens=100, extra_body={"min_tokens": 100})
            assert said.model == name
            assert said.usage is not None
            assert said.usage.completion_tokens == most
        families = {
            family.name: family for family in text_string_to_metric_families(httpx.get(running.url + "/metrics").text)
        }
        tokens = families["loam_tokens"].samples
        counted = {(s.labels["model"], s.labels["kind"]): s.value for s in tokens if s.name.endswith("_total")}
        assert {name: counted[name, "completion"] for name in (NAME, "b/ckpt1")} == {NAME: 100, "b/ckpt1": 63}
        assert {name: counted[name, "prompt"] for name in (NAME, "b/ckpt1")} == {NAME: 1, "b/ckpt1": 1}
        for name in ("loam_time_to_first_token_seconds", "loam_seconds_per_token"):
            counts = [s.value for s in families[name].samples if s.name.endswith("_count")]
            assert counts == [1, 1]
        ended = [s.labels for s in families["loam_requests"].samples if s.name.endswith("_total")]
        assert [labels["status"] for labels in ended] == ["completed", "completed"]
        statuses = {
            s.labels["status"]: s.value for s in families["loam_responses"].samples if s.name.endswith("_total")
        }
        assert statuses == {"200": 3}  # this one has not begun when it is counted
        assert {"loam_queue_length", "loam_rows"} <= families.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no run"),
        (["CKPT", "CKPT"], "two checkpoints would have this name"),
        (["CKPT", "--port", "70000"], "--port 70000: must be 0 or more, up to 65535"),
        (["CKPT", "--rows", "0"], "--rows 0: must be 1 or more"),
        (["CKPT", "--host", "300.1.2.3"], "--host 300.1.2.3 --port 8000: cannot listen there"),
        (["CKPT", "--prices", "prices.toml"], "prices.toml: no such configuration file"),
        (["CKPT", "--ledger", "."], "cannot be used as the ledger"),
        (["CKPT", "--device", "tpu"], "--device tpu: expected one of"),
        (["CKPT", "--grace", "-1"], "--grace -1.0: must be 0 or more"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, checkpoint: Path, words: list[str], said: str) -> None:
    assert said in refused(tmp_path, *[str(checkpoint) if word == "CKPT" else word for word in words])


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, checkpoint: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        assert f"--port {port}: cannot listen there" in refused(tmp_path, str(checkpoint), "--port", port)


def test_the_server_is_imported_without_what_only_reading_files_needs() -> None:
    absent = ["daft", "zstandard", "ftfy", "charset_normalizer", "transformers"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import serve, server.usage, server.keys"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_keys_and_usage_are_told_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import server.usage, server.keys"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
