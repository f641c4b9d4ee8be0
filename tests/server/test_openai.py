"""The real client of OpenAI's against a real server: both endpoints say what the model says, whole and streamed."""

from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai.types import CompletionUsage

from model.generate import generate
from model.huggingface import load_model
from tests.server.conftest import NAME, SEQ_LEN
from tokenizer.dialog import Dialog

QUESTION: list[Any] = [{"role": "user", "content": "What color has cat 1-2?"}]
GREEDY: dict[str, Any] = {"model": NAME, "temperature": 0, "extra_body": {"min_tokens": 24}}


@pytest.fixture(scope="module")
def expected(checkpoint: Path, dialog: Dialog) -> Any:
    """Greedy ids behind a prompt, by plain generation."""
    model = load_model(checkpoint)

    def answer(prompt: list[int], number: int, **settings: Any) -> list[int]:
        settings = {"min_new_tokens": number, "banned": dialog.banned, **settings}
        return generate(model, [prompt], max_new_tokens=number, eos_id=dialog.eos[0], **settings)[0].ids

    return answer


def text_of(dialog: Dialog, ids: list[int]) -> str:
    return dialog.decode_bytes(ids).decode(errors="replace")


def number(usage: CompletionUsage | None) -> int:
    assert usage is not None
    return usage.completion_tokens


def joined(tokens: list[str]) -> str:
    """The text of tokens, some of them spelled in bytes."""
    data = [
        bytes.fromhex(token[6:].replace("\\x", "")) if token.startswith("bytes:") else token.encode()
        for token in tokens
    ]
    return b"".join(data).decode(errors="replace")


def test_models_are_listed_and_described(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).model_extra == {"max_model_len": SEQ_LEN}
    with pytest.raises(openai.NotFoundError, match="no model 'b' here; there are a/ckpt1"):
        client.models.retrieve("b")


def test_a_chat_is_answered_as_by_generation(client: openai.OpenAI, dialog: Dialog, expected: Any) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Seen in <|eos|> stone 1."},  # spells a special token: it is text
        {"role": "user", "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "color?"}]},
        {"role": "assistant", "content": "The sky is blue."},
        *QUESTION,
    ]
    prompt = dialog.prompt([{**messages[0]}, {"role": "user", "content": "What color?"}, *messages[2:]])
    ids = expected(prompt, 24)
    said = client.chat.completions.create(messages=messages, max_completion_tokens=24, **GREEDY)
    assert said.choices[0].message.content == text_of(dialog, ids)
    assert said.choices[0].finish_reason == "length"
    assert said.choices[0].message.role == "assistant"
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (len(prompt), 24)
    assert said.usage.total_tokens == len(prompt) + 24
    again = [*messages, said.choices[0].message, *QUESTION]  # what the client got goes back as it came
    assert client.chat.completions.create(messages=again, max_tokens=4, model=NAME).choices


def test_a_streamed_chat_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=QUESTION, max_tokens=400, **GREEDY)
    stream = client.chat.completions.create(
        messages=QUESTION, max_tokens=400, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]].count("length") == 1
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) > 8  # it did come in pieces, one or more tokens each


def test_without_being_asked_a_stream_tells_no_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(messages=QUESTION, max_tokens=2, stream=True, **{**GREEDY, "extra_body": {}})
    )
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_texts_and_ids_are_gone_on_with(client: openai.OpenAI, dialog: Dialog, expected: Any) -> None:
    text = "The cat is"
    ids = [*dialog.begin, *dialog.encode(text)]
    answer = text_of(dialog, expected(ids, 24))
    for prompt in (text, ids, [text], [ids]):
        said = client.completions.create(prompt=prompt, max_tokens=24, **GREEDY)  # type: ignore[arg-type]
        assert [choice.text for choice in said.choices] == [answer]
    other = [*dialog.begin, *dialog.encode("A lamp")]
    both = client.completions.create(prompt=[text, "A lamp"], max_tokens=24, **GREEDY)
    assert [choice.text for choice in both.choices] == [answer, text_of(dialog, expected(other, 24))]
    assert number(both.usage) == 48
    stream = client.completions.create(prompt=text, max_tokens=24, stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer
    short = client.completions.create(prompt=text, model=NAME, extra_body={"min_tokens": 16})
    assert number(short.usage) == 16


def test_n_answers_differ_and_a_seed_says_which(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": NAME, "messages": QUESTION, "max_tokens": 20, "n": 3, "seed": 5}
    first, second = (client.chat.completions.create(**asked) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    other = client.chat.completions.create(**{**asked, "seed": -7})
    assert texts != [choice.message.content for choice in other.choices]
    unseeded = [client.chat.completions.create(**{**asked, "seed": None}).choices[0].message.content for _ in range(2)]
    assert len({*unseeded, texts[0]}) == 3
    streamed: dict[int, str] = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        choice = chunk.choices[0]
        streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[i] for i in range(3)] == texts


@pytest.mark.parametrize("stream", [False, True])
def test_no_part_of_a_stop_text_is_sent_nor_told_by_its_tokens(
    client: openai.OpenAI, dialog: Dialog, expected: Any, stream: bool
) -> None:
    prompt = [*dialog.begin, *dialog.encode("The cat is")]
    ids = expected(prompt, 24)
    whole = text_of(dialog, ids)
    place = max(i for i in range(len(whole) - 4) if whole.index(whole[i : i + 4]) == i)
    stop, cut = whole[place:][:4], whole[:place]
    assert place > 4
    said = client.completions.create(
        prompt="The cat is", max_tokens=24, stop=["nowhere", stop], logprobs=1, stream=stream, **GREEDY
    )
    choices = [chunk.choices[0] for chunk in (said if stream else [said])]  # type: ignore[union-attr]
    assert "".join(choice.text for choice in choices) == cut
    assert choices[-1].finish_reason == "stop"
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.tokens or []]
    assert cut.startswith(joined(tokens))
    assert tokens
    if not stream:
        assert said.usage.completion_tokens < 24  # type: ignore[union-attr]  # and it went no further
    one = client.completions.create(prompt="The cat is", max_tokens=24, stop=stop, **GREEDY)
    assert one.choices[0].text == cut


def test_logprobs_are_those_of_the_model_in_both_shapes(
    client: openai.OpenAI, checkpoint: Path, dialog: Dialog, expected: Any
) -> None:
    prompt = [*dialog.begin, *dialog.encode("The cat is")]
    ids = expected(prompt, 24)
    model = load_model(checkpoint)
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([prompt + ids])))[0, len(prompt) - 1 : -1].float()
    logits[:, dialog.banned] = -torch.inf
    logprobs = logits.log_softmax(-1)
    chosen = [logprobs[i, token].item() for i, token in enumerate(ids)]
    top = logprobs.topk(3).values.tolist()

    told = client.completions.create(prompt="The cat is", max_tokens=24, logprobs=3, **GREEDY).choices[0]
    assert told.logprobs is not None
    assert told.logprobs.token_logprobs == pytest.approx(chosen, abs=1e-3)
    assert [sorted(row.values(), reverse=True) for row in told.logprobs.top_logprobs or []] == [
        pytest.approx(row, abs=1e-3) for row in top
    ]
    offsets, tokens = told.logprobs.text_offset or [], told.logprobs.tokens or []
    whole = [i for i, token in enumerate(tokens) if not token.startswith("bytes:")]
    assert len(whole) > 3
    assert all(told.text[offsets[i] :].startswith(tokens[i]) for i in whole)
    assert len(tokens) == 24

    chat = client.completions.with_raw_response.create(prompt="x", max_tokens=1, model=NAME)
    assert chat.parse().choices[0].logprobs is None
    asked: dict[str, Any] = {"messages": QUESTION, "max_tokens": 24, "logprobs": True, "top_logprobs": 2, **GREEDY}
    said = client.chat.completions.create(**asked).choices[0].logprobs
    assert said is not None
    assert said.content is not None
    assert b"".join(bytes(token.bytes or []) for token in said.content) == dialog.decode_bytes(
        expected(dialog.prompt(QUESTION), 24)
    )
    assert all(token.top_logprobs[0].logprob == token.logprob for token in said.content)  # greedy
    assert all(len(token.top_logprobs) == 2 for token in said.content)
    streamed = [
        token
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert [token.token for token in streamed] == [token.token for token in said.content]


def test_fields_beside_openais_reach_the_model(client: openai.OpenAI, dialog: Dialog, expected: Any) -> None:
    prompt = [*dialog.begin, *dialog.encode("The cat is")]
    said = client.completions.create(
        prompt="The cat is", model=NAME, max_tokens=24, temperature=0,
        extra_body={"min_tokens": 24, "repetition_penalty": 1.5},
    )  # fmt: skip
    ids = expected(prompt, 24, repetition_penalty=1.5)
    assert said.choices[0].text == text_of(dialog, ids) != text_of(dialog, expected(prompt, 24))
    for one in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 0.0}):  # each leaves the likeliest token alone
        body = {"min_tokens": 24, **one}
        said = client.completions.create(prompt="The cat is", model=NAME, max_tokens=24, temperature=1, extra_body=body)
        assert said.choices[0].text == text_of(dialog, expected(prompt, 24)), one


def test_an_answer_that_says_nothing_of_its_length_ends_where_the_model_ends_it(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(model=NAME, messages=QUESTION, seed=1)
    assert said.usage is not None
    assert said.choices[0].finish_reason == ("stop" if said.usage.total_tokens < SEQ_LEN else "length")
