"""Kill runs at random moments, as often as you like, and say what became of them.

    python tests/faults/campaign.py --kills 1000 --seed 7 --json campaign.json

The runs are the tests' own: 29,000 parameters, two epochs, a checkpoint every third step. They live in a temporary
folder, whose name is printed where a run ended differently. Exit code 1 then.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.machine import facts
from tests.faults.kill import Campaign, campaign
from tests.training.conftest import make_inputs_of, small_config

VARIANTS: dict[str, dict[str, Any]] = {
    "muon, accumulating": {"micro_batch": 2, "samples": 1},
    "adamw": {"optimizer": "adamw", "samples": 0},
    "every step saved": {"save_steps": 1, "samples": 0},
    "compiled": {"samples": 0, "compile": True},
    "two ranks, ddp": {"samples": 0},
    "two ranks, fsdp": {"samples": 0, "parallel": "fsdp"},
}
# Of the kills of one rank that is not compiled: others take longer to start.
SHARES = {"compiled": 0.1, "two ranks, ddp": 0.25, "two ranks, fsdp": 0.25}


def say(variant: str, line: str) -> None:
    """How far a variant is."""
    print(f"{variant}: {line}", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="file to write the report to")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    began, found = time.monotonic(), Campaign()
    for number, (name, changes) in enumerate(VARIANTS.items()):
        (folder / str(number)).mkdir()
        os.chdir(folder / str(number))
        config = small_config()
        make_inputs_of(config)
        config = replace(config, train=replace(config.train, **{"save_steps": 3, **changes}))
        ranks = 2 if name.startswith("two ranks") else 1
        kills = round(options.kills * SHARES.get(name, 1) / sum(SHARES.get(each, 1) for each in VARIANTS))
        part = campaign(config, kills, options.seed + number, partial(say, name), ranks)
        found.add(part)
    report = {**facts(), "seed": options.seed, "seconds": round(time.monotonic() - began), **vars(found)}
    print(*found.lines(), f"in {report['seconds']} s, seed {options.seed}", sep="\n")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if found.failures:
        print(f"the folders of those runs: {folder}")
        sys.exit(1)


if __name__ == "__main__":
    main()
