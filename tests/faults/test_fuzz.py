"""Files that were changed at random: readers make rows of them, loaders refuse them in one line, and that is all.

LOAM_FUZZ: how many files each test makes, 300 by default; a campaign takes 100,000. A failure names its seed.
"""

import csv
import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.runs import read_config
from config import Config
from data.clean import clean_row
from data.columns import ROW_COLUMNS
from data.readers import read_file
from data.sources import SourceConfig, check_sources, list_files
from model.config import ModelConfig, resolve_shape
from model.decoder import Decoder
from model.huggingface import load_model, save_model
from tests.faults.fuzz import changed
from tokenizer.bpe import load_tokenizer
from training.checkpoint import load_for_inference, read_meta

INPUTS = int(os.environ.get("LOAM_FUZZ", "300"))
ROWS = [{"question": f"What is {i}, “really”?", "answer": f'It is {i}.\nNot {i + 1}, "of course".'} for i in range(9)]


def _csv() -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerows([["question", "answer"], *([row["question"], row["answer"]] for row in ROWS)])
    return buffer.getvalue().encode()


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.jsonl", _jsonl())
    return buffer.getvalue()


def _jsonl() -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)


FILES: dict[str, Callable[[], bytes]] = {
    "x.csv": _csv,
    "x.jsonl": _jsonl,
    "x.json": lambda: json.dumps(ROWS).encode(),
    "x.parquet": _parquet,
    "x.jsonl.gz": lambda: gzip.compress(_jsonl()),
    "x.jsonl.zst": lambda: zstandard.compress(_jsonl()),
    "x.zip": _zip,
}


@pytest.mark.parametrize("name", FILES)
def test_a_corpus_file_that_was_changed_at_random_becomes_rows(tmp_path: Path, name: str) -> None:
    sound, path = FILES[name](), tmp_path / name
    source = check_sources([SourceConfig(path=name)])[0]
    for seed in range(INPUTS):
        path.write_bytes(changed(sound, random.Random(seed)))
        try:
            files = list_files(source, tmp_path)
        except UserError:
            continue
        for file in files:
            for row in read_file(file, source):
                cleaned = clean_row(dict(row), 1)  # a null of a Parquet file is a row until then
                assert cleaned["reason"] or (cleaned["question"] and cleaned["answer"]), seed
                for column in ROW_COLUMNS:
                    assert row[column] is None or row[column].encode("utf-8") is not None, seed  # or it is not storable


def one_line(action: Callable[[], Any], seed: int) -> None:
    """It works, or says in one line why not."""
    said = ""
    try:
        action()
    except UserError as error:
        said = str(error)
    except BaseException as error:
        raise AssertionError(f"seed {seed}") from error
    assert "\n" not in said, seed


def test_a_configuration_that_was_changed_at_random_is_read_or_refused(tmp_path: Path) -> None:
    sound = (
        b'[[source]]\nname = "faq"\npath = "faq/*.csv"\n\n[model]\npreset = "tiny"\n\n[train]\nepochs = 10\nlr = 0.02\n'
    )
    for seed in range(INPUTS):
        (tmp_path / "x.toml").write_bytes(changed(sound, random.Random(seed)))
        one_line(lambda: read_config(tmp_path / "x.toml"), seed)


def test_a_tokenizer_that_was_changed_at_random_is_opened_or_refused(tmp_path: Path, config: Config) -> None:
    sound = Path("runs/t/tokenizer/tokenizer.json").read_bytes()
    for seed in range(INPUTS):
        (tmp_path / "tokenizer.json").write_bytes(changed(sound, random.Random(seed)))
        one_line(lambda: load_tokenizer(tmp_path).encode("What color is the sky?"), seed)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_that_was_changed_at_random_is_opened_or_refused(tmp_path: Path, name: str) -> None:
    shape = ModelConfig(num_layers=1, hidden_size=16, num_heads=1, num_kv_heads=1, intermediate_size=16, seq_len=16)
    save_model(Decoder(resolve_shape(shape, 300)), tmp_path, eos_id=2, bos_id=1, pad_id=0)
    sound = (tmp_path / name).read_bytes()
    head = 8 + int.from_bytes(sound[:8], "little") if name.endswith("safetensors") else len(sound)
    for seed in range(INPUTS):
        draw = random.Random(seed)
        # What lies behind the header are weights, any of which is as good as another: hashes find those.
        (tmp_path / name).write_bytes(changed(sound[:head], draw) + sound[head:])
        one_line(lambda: load_model(tmp_path), seed)


def test_a_loam_json_that_was_changed_at_random_is_refused(tmp_path: Path, config: Config) -> None:
    import train as train_script

    train_script.train(config)
    file = Path("runs/t/ckpt2/loam.json")
    sound = file.read_bytes()
    for seed in range(INPUTS):
        file.write_bytes(changed(sound, random.Random(seed)))
        one_line(lambda: read_meta(Path("runs/t/ckpt2")), seed)
    file.write_bytes(sound)
    load_for_inference(Path("runs/t/ckpt2"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() != ""
)


@settings(max_examples=INPUTS, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries({"question": TEXT, "answer": TEXT}, optional={"more": JSON}), max_size=5),
    ascii_only=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_json_lines_read_as_pythons_json_module_reads_them(
    tmp_path: Path, rows: list[dict[str, Any]], ascii_only: bool, ending: str
) -> None:
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + ending for row in rows)
    (tmp_path / "x.jsonl").write_bytes(text.encode())
    source = check_sources([SourceConfig(path="x.jsonl")])[0]
    if not rows:
        return
    (file,) = list_files(source, tmp_path)
    found = [(row["question"], row["answer"]) for row in read_file(file, source) if not row["reason"]]
    assert found == [
        (row["question"], row["answer"])
        for row in map(json.loads, text.splitlines() if ascii_only else text.split(ending)[:-1])
    ]
