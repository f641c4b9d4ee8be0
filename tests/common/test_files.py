"""A file or folder is whole or absent, whatever happens while it is written."""

import os
import re
from pathlib import Path

import pytest

from common import files
from common.errors import UserError
from common.files import atomic_file, atomic_folder, file_sha256, fingerprint, read_json, write_json


def test_a_failing_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_folder_leaves_the_old_folder_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "ckpt"
    target.mkdir()
    (target / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "a").write_text("half")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_finished_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "ckpt"
    target.mkdir()
    (target / "old").touch()
    with atomic_folder(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new").write_text("x")
    assert [str(p.relative_to(target)) for p in sorted(target.rglob("*"))] == ["sub", "sub/new"]
    assert list(tmp_path.iterdir()) == [target]


def test_fingerprints_depend_on_values_not_on_key_order(tmp_path: Path) -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class Order:
    """What was flushed and renamed, in order, as paths below a folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.done: list[tuple[str, ...]] = []
        fsync, replace = os.fsync, os.replace

        def name(path: str | Path) -> str:
            return re.sub(r"\.\d+\.tmp", ".tmp", os.path.relpath(os.path.realpath(path), folder.resolve()))

        def flushed(handle: int) -> None:
            self.done.append(("flush", name(f"/proc/self/fd/{handle}")))
            fsync(handle)

        def renamed(source: Path, target: Path) -> None:
            self.done.append(("rename", name(source), name(target)))
            replace(source, target)

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(os, "replace", renamed)


def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(monkeypatch, tmp_path)
    write_json(tmp_path / "a.json", {})
    assert order.done == [("flush", ".a.json.tmp"), ("rename", ".a.json.tmp", "a.json"), ("flush", ".")]


def test_all_of_a_folder_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(monkeypatch, tmp_path)
    with atomic_folder(tmp_path / "x") as folder:
        (folder / "sub").mkdir()
        for name in ("a", "sub/b"):
            (folder / name).write_text("1")
    before, after = order.done[:-2], order.done[-2:]
    assert sorted(before) == [("flush", f".x.tmp{name}") for name in ("", "/a", "/sub", "/sub/b")]
    assert after == [("rename", ".x.tmp", "x"), ("flush", ".")]


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a": ' + "9" * 5000 + "}", "nonsense", "\udcff", '"x'])
def test_what_is_no_json_of_ours_is_one_line(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"a\.json is damaged") as error:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)
    (tmp_path / "b.json").mkdir()
    with pytest.raises(UserError, match=r"b\.json is damaged"):
        read_json(tmp_path / "b.json")
    with pytest.raises(UserError, match=r"c\.json: not found"):
        read_json(tmp_path / "c.json")
    monkeypatch.setattr(files, "MOST_JSON", 10)
    (tmp_path / "d.json").write_text("[" + " " * 20 + "]")
    with pytest.raises(UserError, match="larger than 10 bytes"):
        read_json(tmp_path / "d.json")
