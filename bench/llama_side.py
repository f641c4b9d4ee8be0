"""What llama.cpp makes of a GGUF: run by a Python that has llama-cpp-python and NumPy, and need have nothing of loam's.

    PYTHON bench/llama_side.py JOB.json OUT.npz

JOB: {"gguf": path, "context": tokens, "exact": whether keys and values are kept in float32 (else in float16, as by
default), "sequences": [[id, ...], ...], "prompts": [[id, ...], ...], "num_tokens": most of a greedy answer, "eos": id,
"chats": [[message, ...], ...], "texts": [text, ...]}; all lists may be missing.
OUT: "logits" (positions of all sequences, vocab) float32; "greedy", "chat", "chat_cpp", "text": lists of ids as JSON;
"version".
"""

import json
import sys
from typing import Any

import llama_cpp
import numpy as np


def main(job: dict[str, Any], out: str) -> None:
    """All that the job asks, into one file."""
    kept = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32} if job.get("exact") else {}
    n = job["context"]
    llm = llama_cpp.Llama(
        job["gguf"],
        n_ctx=n,
        n_batch=n,
        n_ubatch=n,
        logits_all=True,
        verbose=False,
        n_threads=1,
        n_threads_batch=1,
        **kept,
    )
    found = {
        "greedy": [greedy(llm, prompt, job["num_tokens"], job["eos"]) for prompt in job.get("prompts", [])],
        "chat": [chat(llm, messages) for messages in job.get("chats", [])],
        "chat_cpp": [chat_cpp(llm, messages) for messages in job.get("chats", [])],
        "text": [llm.tokenize(text.encode(), add_bos=False, special=False) for text in job.get("texts", [])],
    }
    logits = [whole(llm, ids) for ids in job.get("sequences", [])]
    arrays: dict[str, Any] = {name: np.array(json.dumps(value)) for name, value in found.items()}
    np.savez(out, logits=np.concatenate(logits) if logits else np.zeros((0, 0), np.float32),
             version=np.array(llama_cpp.__version__), **arrays)  # fmt: skip


def whole(llm: llama_cpp.Llama, ids: list[int]) -> np.ndarray:
    """Logits behind each of the ids: (len(ids), vocab) float32."""
    llm.reset()
    llm.eval(ids)
    return llm.scores[: len(ids)].copy()


def greedy(llm: llama_cpp.Llama, prompt: list[int], num_tokens: int, eos: int) -> list[int]:
    """The likeliest tokens one after the other, up to eos."""
    llm.reset()
    llm.eval(prompt)
    said: list[int] = []
    while len(said) < num_tokens:
        token = int(llm.scores[llm.n_tokens - 1].argmax())
        if token == eos:
            break
        said.append(token)
        llm.eval([token])
    return said


def chat(llm: llama_cpp.Llama, messages: list[dict[str, str]]) -> list[int]:
    """The prompt that llama-cpp-python's own chat path makes of the file's template."""
    taken: list[int] = []

    def take(prompt: list[int], **_: Any) -> dict[str, Any]:
        taken.extend(prompt)
        return {"id": "", "object": "", "created": 0, "model": "", "usage": {},
                "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]}  # fmt: skip

    llm.create_completion = take  # type: ignore[method-assign]
    llm.create_chat_completion(messages)  # type: ignore[arg-type]
    return taken


def chat_cpp(llm: llama_cpp.Llama, messages: list[dict[str, str]]) -> list[int]:
    """The prompt as llama-server makes it: a leading bos of the template goes where the tokenizer adds one."""
    bos, eos = (llm._model.token_get_text(token) for token in (llm.token_bos(), llm.token_eos()))
    formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(llm.metadata["tokenizer.chat_template"], eos, bos)
    text = formatter(messages=messages).prompt  # type: ignore[arg-type]
    if llm._model.add_bos_token():
        text = text.removeprefix(bos)
    return llm.tokenize(text.encode(), add_bos=True, special=True)  # add_bos: as the file says


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file), sys.argv[2])
