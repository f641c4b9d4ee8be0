"""What each held-out document costs a model: nats by part, bytes by part, and bits per byte.

  1. documents are packed into rows as in training (`data/packing.py`): every token but bos is a target exactly once
  2. the model gives each target its nats
  3. nats are summed in float64 per document and role (marker, text, context, question, answer); bytes of each part come
     from the corpus' text, never from decoded tokens
  4. `summary` divides sums by sums: no mean of means

Of rows to fine-tune on, only what is trained counts: answers, and in the loss what ends them.

bits per byte = nats of content tokens / ln 2 / UTF-8 bytes of that content. Markers, eos among them, are in neither;
they count in the loss per token, which depends on the tokenizer, as bits per byte does not.
Also what train.py validates with, so it imports nothing that is only needed to read files.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.loader import assemble
from data.packing import pack
from data.tokens import Tokens
from model.decoder import Decoder
from model.loss import token_nll
from tokenizer.template import IN_ANSWER, IN_CONTEXT, IN_QUESTION, IN_TEXT, MARKER, ROLE_NAMES, roles

CONTENT = (IN_TEXT, IN_CONTEXT, IN_QUESTION, IN_ANSWER)
RESPONSES = (IN_TEXT, IN_ANSWER)  # what is trained on where the prompt's loss weight is 0
# Tokens of a forward pass by default. On two CPU cores (1.3M parameters, rows of 256) 33,000 tokens took 1.17, 1.02,
# 1.5 and 1.55 s in passes of 1,024, 4,096, 16,384 and 65,536: larger ones leave the cache. CUDA: not measured.
PASS_TOKENS = {"cpu": 4096, "mps": 16_384, "cuda": 65_536}
POSITIONS = (16, 64, 256, 1024, 4096)  # tokens in front of a target, below which one bucket ends and the next begins
ROLE_SLICE = 1 << 22  # tokens whose roles are found at a time: about 100 MB of temporary arrays


@dataclass
class DocumentLosses:
    """Sums per document (N) and role (5 columns, `tokenizer.template.ROLE_NAMES`); column 0, markers, has no bytes."""

    nats: np.ndarray  # float64 (N, 5)
    num_targets: np.ndarray  # int64 (N, 5)
    num_bytes: np.ndarray  # int64 (N, 5) UTF-8 bytes in the corpus, known without any forward pass

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> "DocumentLosses":
        """Apply `function` (a sum over ranks) to what ranks share out; bytes are the same on every rank."""
        targets = function(self.num_targets.astype(np.float64))  # float64 holds counts to 2**53
        return replace(self, nats=function(self.nats), num_targets=np.asarray(targets).astype(np.int64))

    def select(self, documents: np.ndarray) -> "DocumentLosses":
        """The same for some documents (indices or a mask)."""
        return DocumentLosses(self.nats[documents], self.num_targets[documents], self.num_bytes[documents])

    def bits(self, parts: Sequence[int] = CONTENT) -> np.ndarray:
        """Bits of each document's content, float64 (N,)."""
        return self.nats[:, list(parts)].sum(axis=1) / math.log(2)

    def bytes(self, parts: Sequence[int] = CONTENT) -> np.ndarray:
        """Bytes of each document's content, int64 (N,)."""
        return self.num_bytes[:, list(parts)].sum(axis=1)

    def bits_per_byte(self, parts: Sequence[int] = CONTENT) -> float | None:
        """Bits of all documents / bytes of all documents; None where there are no bytes."""
        total = int(self.bytes(parts).sum())
        return float(self.bits(parts).sum()) / total if total else None


@dataclass
class PositionLosses:
    """Sums of tokens by how many tokens of their document stood in front of them in the same row, and by role."""

    token_bytes: np.ndarray  # int64 (V,): UTF-8 bytes of each token
    nats: np.ndarray = field(default_factory=lambda: np.zeros((len(POSITIONS) + 1, len(ROLE_NAMES))))
    num_bytes: np.ndarray = field(default_factory=lambda: np.zeros((len(POSITIONS) + 1, len(ROLE_NAMES)), np.int64))

    def add(self, in_front: np.ndarray, targets: np.ndarray, roles: np.ndarray, nats: np.ndarray) -> None:
        """Add targets: how many tokens stood in front of each, its id, its role, its nats; all (N,)."""
        place = np.searchsorted(POSITIONS, in_front, side="right")
        np.add.at(self.nats, (place, roles), nats.astype(np.float64))
        np.add.at(self.num_bytes, (place, roles), self.token_bytes[targets])

    def bytes(self, place: int, parts: Sequence[int] = CONTENT) -> int:
        """Bytes of one bucket's content."""
        return int(self.num_bytes[place, list(parts)].sum())

    def bits_per_byte(self, place: int, parts: Sequence[int] = CONTENT) -> float | None:
        """Of one bucket; None where there are no bytes."""
        size = self.bytes(place, parts)
        return float(self.nats[place, list(parts)].sum()) / math.log(2) / size if size else None

    def names(self) -> list[str]:
        """Of the buckets: "1 to 15"."""
        edges = zip((1, *POSITIONS), POSITIONS, strict=False)
        return [*(f"{low:,} to {high - 1:,} tokens" for low, high in edges), f"{POSITIONS[-1]:,} tokens and more"]


@torch.no_grad()
def document_losses(
    model: Decoder,
    tokens: Tokens,
    seq_len: int,
    device: torch.device | str = "cpu",
    batch_rows: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    progress: str | None = None,
    between: Callable[[], None] = lambda: None,
    by_position: PositionLosses | None = None,
) -> DocumentLosses:
    """Losses of every document; a rank of several gets its share of the rows, to be summed over ranks with `map`.

    Runs under the caller's autocast. The model's mode (train or eval) is put back as it was. `progress`: a bar's label.
    `between`: called before each pass, as often on every rank. `by_position`: is added to.
    """
    plan = pack(tokens.lengths, seq_len)
    batch_rows = batch_rows or max(1, PASS_TOKENS[torch.device(device).type] // seq_len)
    batch_rows = max(1, min(batch_rows, len(plan)))
    role_of = document_roles(tokens)
    nats = np.zeros((len(tokens), len(ROLE_NAMES)))
    counts = np.zeros((len(tokens), len(ROLE_NAMES)), dtype=np.int64)
    first_rows = range(0, len(plan), world_size * batch_rows)  # of all ranks
    was_training = model.training
    model.eval()
    try:
        for first in tqdm(first_rows, desc=progress, unit=" batches", disable=progress is None, leave=False):
            between()
            first += rank * batch_rows
            if first >= len(plan):
                continue
            rows = np.arange(first, min(first + batch_rows, len(plan)))
            # One shape: compiled masks are made once.
            batch = assemble(plan, rows, tokens, 1.0 if tokens.trained is None else 0.0, batch_rows)
            ids, targets, positions, documents = (
                torch.from_numpy(array).to(device)
                for array in (batch.ids, batch.targets, batch.positions, batch.documents)
            )
            nll = token_nll(model(ids, positions, documents), model.head, targets).cpu().numpy()
            used = batch.weights > 0  # not padding, nor the empty rows of the last batch, nor what is not trained
            row_starts = np.resize(plan.row_starts[rows], batch_rows)
            piece = (row_starts[:, None] + batch.documents)[used]
            owner = batch.owners[used]
            role = role_of[tokens.offsets[owner] + plan.starts[piece] + batch.positions[used] + 1]
            np.add.at(nats, (owner, role), nll[used].astype(np.float64))
            np.add.at(counts, (owner, role), 1)
            if by_position is not None:
                by_position.add(batch.positions[used] + 1, batch.targets[used], role, nll[used])
    finally:
        model.train(was_training)
    return DocumentLosses(nats, counts, content_bytes(tokens))


def document_roles(tokens: Tokens) -> np.ndarray:
    """Role of every token, uint8, one a token; read in slices of whole documents. Of rows to fine-tune on those that
    are trained are answers and, their ends, markers."""
    if tokens.trained is not None:
        return np.where(tokens.trained == 1, np.uint8(IN_ANSWER), np.uint8(MARKER))
    found = np.empty(len(tokens.ids), dtype=np.uint8)
    first = 0
    while first < len(tokens):
        end = max(first + 1, int(np.searchsorted(tokens.offsets, tokens.offsets[first] + ROLE_SLICE)))
        here = slice(int(tokens.offsets[first]), int(tokens.offsets[end - 1] + tokens.lengths[end - 1]))
        found[here] = roles(tokens.ids[here])
        first = end
    return found


def content_bytes(tokens: Tokens) -> np.ndarray:
    """UTF-8 bytes of each document's parts as they stand in the corpus, int64 (N, 5)."""
    columns = [tokens.table[f"bytes_{name}"].to_numpy() for name in ROLE_NAMES if name != ROLE_NAMES[MARKER]]
    return np.stack([np.zeros(len(tokens), dtype=np.int64), *columns], axis=1).astype(np.int64)


def summary(losses: DocumentLosses) -> dict[str, Any]:
    """Figures over all documents, each a sum over a sum, and on how much data they rest.

    bits_per_byte: all content; bpb_text, bpb_context, bpb_question, bpb_answer: that part alone (None where there is
    none), with documents_*, tokens_*, bytes_*; loss: nats per target, markers and eos included; perplexity = exp(loss).
    """
    num_targets = int(losses.num_targets.sum())
    assert num_targets > 0, "a split without targets cannot be evaluated"
    loss = float(losses.nats.sum()) / num_targets
    figures: dict[str, Any] = {
        "bits_per_byte": losses.bits_per_byte(),
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),  # a diverged model's loss must not overflow
        "num_documents": len(losses.nats),
        "num_tokens": num_targets,
        "num_bytes": int(losses.bytes().sum()),
    }
    for part in CONTENT:
        name = ROLE_NAMES[part]
        figures[f"bpb_{name}"] = losses.bits_per_byte([part])
        figures[f"documents_{name}"] = int((losses.num_bytes[:, part] > 0).sum())
        figures[f"tokens_{name}"] = int(losses.num_targets[:, part].sum())
        figures[f"bytes_{name}"] = int(losses.num_bytes[:, part].sum())
    return figures
