"""A checkpoint's tokenizer and model behind one face, loam's own or others': what the checks and prompts need of them.

  Reader    text -> ids -> text, special tokens, conversations -> ids by the chat template of the folder
  Speaker   ids -> logits, ids -> nats of their targets, prompts -> answers

loam's own are opened by loam's code alone. Others are opened by `transformers` (the extra [eval]) from disk only: it
calls nobody, runs no code of the folder, reads no pickle.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError
from common.files import read_json
from model.generate import Generation, generate
from model.huggingface import load_model
from model.loss import token_nll
from model.sampling import choose
from tokenizer.bpe import load_tokenizer
from tokenizer.chat_template import render_jinja
from tokenizer.template import BOS, EOS, SPECIAL_TOKENS

ROLES = ("pad", "bos", "eos")
Messages = list[dict[str, str]]


@dataclass
class Reader:
    """A tokenizer."""

    size: int  # highest id + 1
    control: dict[str, int]  # special tokens as they are spelled
    roles: dict[str, int | None]  # the ids of pad, bos and eos
    encode: Callable[[str], list[int]]  # content alone
    encode_as_text: Callable[[str], list[int]]  # the same, where content that spells a special token must stay text
    decode: Callable[[list[int]], str]
    begin: list[int]  # what stands before a text
    converse: Callable[[Messages, bool], list[int]] | None  # by the chat template; True: the answer is to begin


@dataclass
class Speaker:
    """A model in memory."""

    seq_len: int
    vocab_size: int  # rows of its embedding
    logits: Callable[[Tensor], Tensor]  # (B,T) -> (B,T,V) float32
    nats: Callable[[Tensor, Tensor], Tensor]  # ids (B,T), targets (B,T), -100 for none -> (B,T) float32
    # prompts, most new tokens -> greedy answers; others' take temperature, top_p and a seed a prompt too
    answer: Callable[..., list[Generation]]
    eos: list[int]  # ids that end an answer
    device: torch.device


def own_reader(path: Path) -> Reader:
    """The tokenizer of a checkpoint of loam's; UserError where it is none of ours, or damaged."""
    tok = load_tokenizer(path)
    plain = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))  # reads markers, as it does for other engines
    config = read_json(path / "tokenizer_config.json")
    names = {role: _spelled(config.get(f"{role}_token")) for role in ROLES}
    template = config.get("chat_template")

    def converse(messages: Messages, answer_begins: bool) -> list[int]:
        tokens = {f"{role}_token": name or "" for role, name in names.items()}
        text = render_jinja(template, messages=messages, add_generation_prompt=answer_begins, **tokens)
        return plain.encode(text, add_special_tokens=False).ids

    return Reader(
        size=tok.vocab_size,
        control={token: i for i, token in enumerate(SPECIAL_TOKENS)},  # load_tokenizer has seen to it
        roles={role: plain.token_to_id(name) if name else None for role, name in names.items()},
        encode=tok.encode,
        encode_as_text=tok.encode,
        decode=tok.decode,
        begin=[BOS],
        converse=converse if isinstance(template, str) else None,
    )


def own_speaker(path: Path, device: torch.device) -> Speaker:
    """The model of a checkpoint of loam's, in float32 on a CPU; UserError where it does not load."""
    dtype = torch.float32 if device.type == "cpu" else None
    model = load_model(path, device=device, dtype=dtype).eval()
    return Speaker(
        seq_len=model.shape.seq_len,
        vocab_size=model.shape.vocab_size,
        logits=lambda ids: model.logits(model(ids)).float(),
        nats=lambda ids, targets: token_nll(model(ids), model.head, targets),
        answer=lambda prompts, most: generate(model, prompts, max_new_tokens=most, eos_id=EOS),
        eos=[EOS],
        device=device,
    )


def foreign_reader(path: Path) -> Reader:
    """The tokenizer of another's folder; whatever `transformers` raises where it cannot be opened."""
    transformers = need_transformers(path)
    with quiet():
        tok = transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    ids = list(tok.get_vocab().values())

    def encode(text: str, **options: Any) -> list[int]:
        with quiet():  # a text longer than the context is no reason to say so
            return list(tok(text, add_special_tokens=False, **options)["input_ids"])

    def converse(messages: Messages, answer_begins: bool) -> list[int]:
        with quiet():
            found = tok.apply_chat_template(messages, add_generation_prompt=answer_begins, return_dict=False)
        return list(found)

    before = list(tok("a")["input_ids"])
    return Reader(
        size=max(ids) + 1,
        control={token: tok.convert_tokens_to_ids(token) for token in tok.all_special_tokens},
        roles={role: getattr(tok, f"{role}_token_id") for role in ROLES},
        encode=encode,
        encode_as_text=lambda text: encode(text, split_special_tokens=True),
        decode=lambda ids: tok.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        begin=[tok.bos_token_id] if tok.bos_token_id is not None and before[0] == tok.bos_token_id else [],
        converse=converse if tok.chat_template else None,
    )


def foreign_model(path: Path, device: torch.device, whole: bool) -> tuple[Any, dict[str, Any]]:
    """Another's model, and which tensors were missing, unexpected or of another size; whatever `transformers` raises.

    whole: in float32, else as it is stored.
    """
    transformers = need_transformers(path)
    with quiet():
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            ignore_mismatched_sizes=True, output_loading_info=True, dtype=torch.float32 if whole else "auto",
        )  # fmt: skip
    return model.to(device).eval(), info


def foreign_speaker(model: Any, reader: Reader, generation: dict[str, Any], device: torch.device) -> Speaker:
    """What `foreign_model` opened."""
    transformers = need_transformers(Path())
    config = model.config.get_text_config()
    stated = generation.get("eos_token_id")
    eos = [*(stated if isinstance(stated, list) else [stated]), reader.roles["eos"]]
    eos = sorted({token for token in eos if isinstance(token, int)})
    pad = reader.roles["pad"] if reader.roles["pad"] is not None else (eos or [0])[0]

    def logits(ids: Tensor) -> Tensor:
        return model(input_ids=ids, use_cache=False).logits.float()

    def nats(ids: Tensor, targets: Tensor) -> Tensor:
        rows = [F.cross_entropy(logits(ids[i : i + 1])[0], targets[i], reduction="none") for i in range(len(ids))]
        return torch.stack(rows)  # one row's logits at a time: at 150,000 tokens each takes 0.6 MB a position

    def answer(
        prompts: list[list[int]],
        most: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seeds: Sequence[int] | None = None,
    ) -> list[Generation]:
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        greedy = transformers.GenerationConfig(do_sample=False, max_new_tokens=most, eos_token_id=eos or None,
                                               pad_token_id=pad)  # fmt: skip
        chosen = [] if seeds is None else [_sampled(temperature, top_p, seeds)]
        with quiet():
            made = model.generate(input_ids=ids, attention_mask=mask, generation_config=greedy, logits_processor=chosen)
        return [_until_eos(row, eos) for row in made[:, width:].tolist()]

    seq_len = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return Speaker(
        seq_len=seq_len or 2048,
        vocab_size=model.get_input_embeddings().weight.shape[0],
        logits=logits,
        nats=nats,
        answer=answer,
        eos=eos,
        device=device,
    )


def foreign_because(path: Path) -> str:
    """Why a folder is opened as another's, to be said where that fails."""
    return "speaks by a template made elsewhere" if (path / "loam.json").exists() else "has no loam.json"


def need_transformers(path: Path) -> Any:
    """The module, told to stay offline; UserError where it is not installed."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read at its import
    try:
        import transformers
    except ImportError:
        raise UserError(
            f"{path} was not made by loam, and others' checkpoints are opened by transformers, which is not "
            "installed: pip install -e '.[eval]'"
        ) from None
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines, warnings and progress bars of `transformers`: what is wrong is said by a check."""
    from transformers.utils import logging as theirs

    before, bars = logging.root.manager.disable, theirs.is_progress_bar_enabled()
    logging.disable(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if bars:
            theirs.enable_progress_bar()


def _sampled(temperature: float, top_p: float, seeds: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
    """A logits processor that leaves each row the one token that loam's own sampling takes, with a seed a row: what
    `transformers` samples by itself depends on the batch."""
    random = [torch.Generator().manual_seed(seed) for seed in seeds]

    def process(_: Tensor, scores_BV: Tensor) -> Tensor:
        taken_B = choose(scores_BV.float(), temperature, 0, top_p, random)
        return torch.full_like(scores_BV, -torch.inf).scatter(1, taken_B[:, None], 0.0)

    return process


def _until_eos(ids: Sequence[int], eos: Sequence[int]) -> Generation:
    for i, token in enumerate(ids):
        if token in eos:
            return Generation(list(ids[:i]), True)
    return Generation(list(ids), False)


def _spelled(token: Any) -> str | None:
    """A token of tokenizer_config.json: its text, or an object that holds it."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None
