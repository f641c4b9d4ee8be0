"""The memory that control groups leave: both versions, every level, and machines without any."""

from pathlib import Path

from training.cgroup import NO_LIMIT, left_in_cgroup


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_version_2_takes_the_tightest_level_and_counts_cache_as_free(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("0::/slurm/job_7/step_0\n")
    group(root / "slurm" / "job_7", memory__max=16000, memory__current=9000, memory__stat="anon 5000\nfile 3000")
    group(root / "slurm" / "job_7" / "step_0", memory__max="max", memory__current=9000, memory__stat="file 3000")
    assert left_in_cgroup(own, root) == 16000 - 9000 + 3000
    group(root / "slurm", memory__max=12000, memory__current=11000, memory__stat="file 0")
    assert left_in_cgroup(own, root) == 1000


def test_version_1_and_a_path_that_is_only_the_host_s(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n")
    files = {"memory__limit_in_bytes": 8000, "memory__usage_in_bytes": 5000, "memory__stat": "cache 1\ntotal_cache 500"}
    group(root / "memory", **files)  # inside the container its own group is the root
    assert left_in_cgroup(own, root) == 8000 - 5000 + 500


def test_no_limit_and_no_groups(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert left_in_cgroup(own, tmp_path) == NO_LIMIT
    own.write_text("0::/user.slice\n")
    group(tmp_path / "user.slice", memory__max="max", memory__current=5, memory__stat="file 1")
    assert left_in_cgroup(own, tmp_path) == NO_LIMIT
    group(tmp_path, memory__max=100, memory__current=300, memory__stat="file 1")
    assert left_in_cgroup(own, tmp_path) == 0
