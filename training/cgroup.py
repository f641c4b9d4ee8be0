"""The memory that a scheduler or a container leaves this process, which /proc/meminfo knows nothing of.

SLURM and Docker limit a control group; whoever takes more is killed. In: /proc/self/cgroup and the mounted hierarchy,
of version 2 (one for all) or 1 (one for memory). Out: bytes.
"""

from pathlib import Path

NO_LIMIT = 1 << 62
# limit, what is used, and of that what gives way: the page cache
FILES = {
    2: ("memory.max", "memory.current", "file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
}


def left_in_cgroup(own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes left under the tightest limit on the way from this process' group to the root; NO_LIMIT without one."""
    left = NO_LIMIT
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return left
    for number, controllers, path in lines:
        if number == "0":
            version, root = 2, mounted
        elif "memory" in controllers.split(","):
            version, root = 1, mounted / "memory"
        else:
            continue
        folder = root / path.lstrip("/")
        while folder.is_relative_to(root):  # in a container the path may be the host's: then only the root is there
            left = min(left, _left(folder, version))
            folder = folder.parent
    return left


def _left(folder: Path, version: int) -> int:
    limit, usage, cache = FILES[version]
    try:
        most = int((folder / limit).read_text(encoding="utf-8"))
        used = int((folder / usage).read_text(encoding="utf-8"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
        return max(0, most - used + int(stat.get(cache, 0)))
    except (OSError, ValueError):  # no such group here, or its limit is "max"
        return NO_LIMIT
