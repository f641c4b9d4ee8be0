"""What the figures of a benchmark rest on: machine, versions, commit, and the machine's own matrix rate."""

import json
import math
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from training.checkpoint import git_revision

SIZES = (1024, 2048, 4096, 8192)


def facts() -> dict[str, Any]:
    """Date, commit, device and versions, for a result file."""
    return {
        "date": date.today().isoformat(),
        "commit": git_revision(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def tell(result: dict[str, Any], lines: list[str], file: str | None) -> None:
    """Print a result's lines, and write it to a JSON file if one is named."""
    print(*lines, sep="\n")
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"written: {file}")


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line.split(":", 1) for line in file if ":" in line]
    except OSError:
        return platform.processor() or "unknown CPU"
    fields = {name.strip(): value.strip() for name, value in lines}
    flags = fields.get("flags", "").split()
    units = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{fields.get('model name', 'CPU')}, {platform.machine()}, {' '.join(units)}"


def matrix_rates(device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...] = SIZES) -> dict[int, float]:
    """FLOP/s of square products by size, the best of a few runs each."""
    found = {}
    for size in sizes:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        best = math.inf
        for _ in range(max(2, min(10, 2**33 // size**3))):
            start = time.perf_counter()
            product = a @ b
            product[0, 0].item()  # waits for the device
            best = min(best, time.perf_counter() - start)
        found[size] = 2 * size**3 / best
    return found
