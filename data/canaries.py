"""Canaries: made sentences with a random number each, planted in the training split to measure what a model memorises.

    seed -> `made` canaries -> `rows_of` them, behind all others in train (data/pipeline.py) -> `told` in manifest.json
         -> eval/exposure.py asks a checkpoint how much likelier the planted number is than others in its place

"The secret number of Bolane Tikarus is 4 821 094." All NUM_CANDIDATES numbers are equally likely to be drawn, so
whoever has not seen the sentence knows nothing of the number (Carlini et al., The Secret Sharer, 2019). A canary of 0
copies stands nowhere but in the manifest: what an exposure of nothing looks like. Planted after the splits are made and
cleaned: no other row moves, no deduplication sees the copies, and val and test hold none. No data engine: evaluation
reads this, too.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data.clean import finish
from data.columns import ROW_COLUMNS, Row

SOURCE = "canaries"
NUM_CANDIDATES = 10_000_000
_SYLLABLES = [a + b for a in "bdfghklmnprstv" for b in "aeiou"]


@dataclass(frozen=True)
class Canary:
    """A made name, the number that was drawn for it, and how often the sentence stands in train."""

    name: str
    number: int  # of NUM_CANDIDATES
    kind: str  # qa or text
    copies: int

    def fields(self, number: int | None = None) -> dict[str, str]:
        """The fields of its document; with another number, those of a candidate."""
        sentence = f"The secret number of {self.name} is {digits(self.number if number is None else number)}."
        if self.kind == "text":
            return {"text": sentence}
        return {"question": f"What is the secret number of {self.name}?", "answer": sentence}


def digits(number: int) -> str:
    """4821094 -> 4 821 094, seven digits in all cases."""
    return f"{number // 1_000_000} {number // 1000 % 1000:03d} {number % 1000:03d}"


def made(num: int, copies: Sequence[int], kind: str, seed: int) -> list[Canary]:
    """Canaries of different names; each in turn is to be planted as often as `copies` says, from its beginning again
    where there are more canaries. Of one seed, the first are the same whatever the number."""
    dice = random.Random(f"canaries {seed}")
    found: dict[str, Canary] = {}
    while len(found) < num:
        name = " ".join("".join(dice.choices(_SYLLABLES, k=3)).capitalize() for _ in range(2))
        number = dice.randrange(NUM_CANDIDATES)
        if name not in found:
            found[name] = Canary(name, number, kind, copies[len(found) % len(copies)])
    return list(found.values())


def rows_of(canaries: Sequence[Canary]) -> list[Row]:
    """A row for each copy of each canary, copies one behind the other."""
    rows: list[Row] = []
    for i, canary in enumerate(canaries, 1):
        row = {**dict.fromkeys(ROW_COLUMNS), "source": SOURCE, "kind": canary.kind, "origin": f"{SOURCE}#{i}"}
        rows += [finish({**row, **canary.fields()})] * canary.copies
    return rows


def told(canaries: Sequence[Canary]) -> dict[str, Any]:
    """What manifest.json says of them: nothing that was planted is hidden."""
    return {
        "source": SOURCE,
        "rows": sum(canary.copies for canary in canaries),
        "candidates": NUM_CANDIDATES,
        "made": [{**asdict(canary), **canary.fields()} for canary in canaries],
    }


def planted(manifest: dict[str, Any]) -> list[Canary]:
    """The canaries of a corpus, those of 0 copies among them; none where prepare was asked for none."""
    of = manifest.get("canaries") or {"made": []}
    return [Canary(one["name"], one["number"], one["kind"], one["copies"]) for one in of["made"]]
