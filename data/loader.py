"""The loader: tokens -> an epoch's plan of packed rows -> batches of arrays.

1. `epoch_plan` shuffles the documents (a source of weight 2 twice), packs them, shuffles the rows: a function of
   (seed, epoch) alone, so every rank makes the same plan and no rank needs to tell another.
2. `batches` walks the plan in steps of a global batch; each rank assembles its own rows, cut in micro-batches of one
   fixed shape. It yields (step, state); state is plain JSON, and handing it back resumes at the next step.
3. `assemble` reads ids for rows: the only place where tokens are copied.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.files import read_json
from data.packing import Plan, pack, shuffle_rows
from data.tokens import Tokens

IGNORE = -100  # target of a position without one, as in torch's cross_entropy
COUNTED = 1 << 22  # tokens that are counted at a time


def about_corpus(manifest: Path) -> tuple[str, dict[str, float]]:
    """A corpus's fingerprint, and how often each source's documents are seen where that is not once."""
    found = read_json(manifest)
    try:
        weights = {source["name"]: float(source["weight"]) for source in found["sources"]}
        return str(found["fingerprint"]), {name: weight for name, weight in weights.items() if weight != 1}
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{manifest} is damaged: prepare the corpus anew") from None


@dataclass
class Batch:
    """Packed rows, each array (B, T)."""

    ids: np.ndarray  # int64 inputs; 0 (pad) where there is none
    targets: np.ndarray  # int64 next token of the same document; IGNORE where there is none
    weights: np.ndarray  # float32 weight of the target's loss; 0 where there is none
    positions: np.ndarray  # int64, from 0 in each piece
    documents: np.ndarray  # int32 number of the piece inside its row; -1 on padding
    owners: np.ndarray  # int64 document that the target belongs to, in Tokens; -1 on padding
    num_targets: int  # targets, whatever their weight


@dataclass
class Step:
    """One optimizer step's share of one rank."""

    micro_batches: list[Batch]
    weight_sum: float  # sum of weights over the *global* batch, all ranks: what the loss is divided by
    num_targets: int  # targets of the global batch


def epoch_plan(tokens: Tokens, seq_len: int, seed: int, epoch: int, weights: Mapping[str, float] | None = None) -> Plan:
    """Plan of one epoch. `weights`: source name -> how often each document is seen (2.5: two or three times)."""
    generator = np.random.default_rng([seed, epoch])
    by_source = np.asarray([(weights or {}).get(name, 1.0) for name in tokens.source_names])
    times = by_source[tokens.sources] if len(tokens) else np.zeros(0)
    repeats = np.floor(times + generator.random(len(tokens))).astype(np.int64)
    order = generator.permutation(np.repeat(np.arange(len(tokens)), repeats))
    return shuffle_rows(pack(tokens.lengths, seq_len, order), generator)


def row_weights(plan: Plan, tokens: Tokens, prompt_weight: float) -> np.ndarray:
    """Sum of target weights of each row (R,): counted from the index and what is trained, no id is read."""
    if tokens.trained is None:
        first, last = plan.starts + 1, plan.starts + plan.lengths  # targets of a piece, as positions in their document
        in_prompt = np.clip(np.minimum(last + 1, tokens.prompts[plan.documents]) - first, 0, None)
    else:
        in_prompt = plan.lengths - _trained_targets(plan, tokens)
    per_piece = (plan.lengths - in_prompt) + prompt_weight * in_prompt
    return np.add.reduceat(per_piece, plan.row_starts[:-1]) if len(plan) else np.zeros(0)


def _trained_targets(plan: Plan, tokens: Tokens) -> np.ndarray:
    """How many targets of each piece are trained (P,). Fine-tuning's documents fit their rows, so nearly all pieces are
    whole ones; those are counted a slice of documents at a time, as numpy takes 8 bytes for each id that it sums."""
    assert tokens.trained is not None
    of_document = np.zeros(len(tokens), dtype=np.int64)
    first = 0
    while first < len(tokens):
        end = max(first + 1, int(np.searchsorted(tokens.offsets, tokens.offsets[first] + COUNTED)))
        start, stop = tokens.offsets[first], tokens.offsets[end - 1] + tokens.lengths[end - 1]
        of_document[first:end] = np.add.reduceat(tokens.trained[start:stop] > 0, tokens.offsets[first:end] - start)
        first = end
    of_document -= tokens.trained[tokens.offsets] > 0  # a document's first token is no target
    found = of_document[plan.documents]
    begin = tokens.offsets[plan.documents] + plan.starts + 1
    for i in np.flatnonzero(plan.lengths != tokens.lengths[plan.documents] - 1):
        found[i] = np.count_nonzero(tokens.trained[begin[i] : begin[i] + plan.lengths[i]])
    return found


def assemble(plan: Plan, rows: np.ndarray, tokens: Tokens, prompt_weight: float = 1.0, num_rows: int = 0) -> Batch:
    """Read the given rows of a plan; padded with empty rows up to `num_rows`, so that shapes stay fixed.

    A row is its pieces and then padding, perhaps of no length: runs without a gap. What is constant on a run is one
    np.repeat over the batch, and nothing is scattered: 65,536 positions of 256 in 0.8 ms, with index arrays in 2.7.
    """
    shape = (max(num_rows, len(rows)), plan.seq_len)
    counts = np.zeros(shape[0], dtype=np.int64)  # pieces of each row
    counts[: len(rows)] = plan.row_starts[rows + 1] - plan.row_starts[rows]
    number = _ranges(counts)  # of the piece inside its row
    piece = np.repeat(plan.row_starts[rows], counts[: len(rows)]) + number
    length, start, document = plan.lengths[piece], plan.starts[piece], plan.documents[piece]
    source = tokens.offsets[document] + start  # first input token in tokens.ids
    row_ends = np.cumsum(counts)
    is_piece = np.ones(len(piece) + len(counts), dtype=bool)
    is_piece[row_ends + np.arange(len(counts))] = False

    def by_run(of_pieces: np.ndarray, of_padding: np.ndarray | int, dtype: type = np.int64) -> np.ndarray:
        found: np.ndarray = np.empty(len(is_piece), dtype=dtype)
        found[is_piece], found[~is_piece] = of_pieces, of_padding
        return found

    filled = np.diff(np.append(0, np.cumsum(length))[np.append(0, row_ends)])  # positions of each row
    run_length = by_run(length, plan.seq_len - filled)
    first = np.cumsum(run_length) - run_length  # place of each run's first position in the batch
    places = np.arange(shape[0] * shape[1])
    read = np.repeat(by_run(source, 0) - first, run_length)
    read += places
    ids = np.asarray(tokens.ids).take(read, mode="clip").astype(np.int64)  # padding reads anything: overwritten below
    targets = np.empty_like(ids)
    targets[:-1] = ids[1:]  # right but for the last position of each piece, whose target is no input
    targets[first[is_piece] + length - 1] = tokens.ids[source + length]
    positions = places
    positions -= np.repeat(first, run_length)
    if prompt_weight == 1.0:
        weights = np.ones(len(ids), dtype=np.float32)
    elif tokens.trained is not None:
        is_trained = tokens.trained.take(read + 1, mode="clip") > 0  # of the target, which follows what is read
        weights = np.where(is_trained, np.float32(1.0), np.float32(prompt_weight))
    else:
        num_prompt = by_run(tokens.prompts[document] - start - 1, 0)  # targets of each piece that are prompt
        in_prompt = positions < np.repeat(num_prompt, run_length)
        weights = np.where(in_prompt, np.float32(prompt_weight), np.float32(1.0))
    padding = np.repeat(first[~is_piece], run_length[~is_piece]) + _ranges(run_length[~is_piece])
    for array, fill in ((ids, 0), (targets, IGNORE), (weights, 0), (positions, 0)):
        array[padding] = fill
    return Batch(
        ids=ids.reshape(shape),
        targets=targets.reshape(shape),
        weights=weights.reshape(shape),
        positions=positions.reshape(shape),
        documents=np.repeat(by_run(number, -1, np.int32), run_length).reshape(shape),
        owners=np.repeat(by_run(document, -1), run_length).reshape(shape),
        num_targets=int(length.sum()),
    )


def _ranges(counts: np.ndarray) -> np.ndarray:
    """[3, 2] -> [0, 1, 2, 0, 1]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def num_steps(plan: Plan, rows_per_step: int) -> int:
    """Optimizer steps of one epoch; the last may be smaller."""
    return -(-len(plan) // rows_per_step)


def batches(
    plan: Plan,
    tokens: Tokens,
    rows_per_step: int,
    micro_batch: int,
    state: Mapping[str, int],
    rank: int = 0,
    world_size: int = 1,
    prompt_weight: float = 1.0,
) -> Iterator[tuple[Step, dict[str, int]]]:
    """Steps of one epoch from `state` = {"epoch", "step"} on, each with the state that resumes after it.

    Rank r takes every world_size-th row of the global batch. All ranks run the same number of micro-batches of
    `micro_batch` rows; a rank that has fewer rows gets empty ones.
    """
    row_weight = row_weights(plan, tokens, prompt_weight)
    row_targets = np.add.reduceat(plan.lengths, plan.row_starts[:-1]) if len(plan) else np.zeros(0)
    for step in range(state["step"], num_steps(plan, rows_per_step)):
        rows = np.arange(step * rows_per_step, min((step + 1) * rows_per_step, len(plan)))
        mine = rows[rank::world_size]
        num_micro = ceil(ceil(len(rows) / world_size) / micro_batch)
        micro = [
            assemble(plan, mine[i * micro_batch : (i + 1) * micro_batch], tokens, prompt_weight, micro_batch)
            for i in range(num_micro)
        ]
        item = Step(micro, float(row_weight[rows].sum()), int(row_targets[rows].sum()))
        yield item, {"epoch": state["epoch"], "step": step + 1}
