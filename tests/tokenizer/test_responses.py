"""Rows to fine-tune on: answers and their ends are trained, each once; what is too long follows the stated policy."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.loader import assemble, epoch_plan, row_weights
from data.packing import pack
from data.turns import join_turns
from data.writing import DOCUMENT_SCHEMA
from tokenizer.bpe import Tokenizer
from tokenizer.dialog import Dialog, Messages, Row, own_dialog
from tokenizer.encode import encode_table
from tokenizer.responses import Counts, fit, response_tokens, sound_responses
from tokenizer.template import EOS, IN_ANSWER, render_messages, roles

some_text = st.text(max_size=12)
turn = st.tuples(some_text, some_text).map(
    lambda said: [{"role": "user", "content": said[0]}, {"role": "assistant", "content": said[1]}]
)
talk = st.tuples(st.one_of(st.none(), some_text), st.lists(turn, min_size=1, max_size=5)).map(
    lambda made: [{"role": "context", "content": made[0]}] * (made[0] is not None) + [m for t in made[1] for m in t]
)
COLUMNS = [name for name in DOCUMENT_SCHEMA.names if name != "n_bytes"]


def corpus_table(rows: list[dict[str, str]]) -> pa.Table:
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in COLUMNS}
    return pa.table(columns | {"id": pa.array([str(i) for i in range(len(rows))]), "source": ["qa"] * len(rows)})


ROWS = [
    {"question": "Why?", "answer": "Because é."},
    {"question": "And?", "answer": "So.", "context": join_turns([
        {"role": "context", "content": "Be kind."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "One."},
    ]) or ""},
    {"text": "prose"},
]  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=talk)
def test_answers_and_their_ends_are_trained_and_nothing_else(tok: Tokenizer, messages: list[dict[str, str]]) -> None:
    row = own_dialog(tok).document(messages)
    ids = np.asarray(row.ids)
    assert row.ids == render_messages(tok, messages)
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert (row.trained == 2).sum() == len(answers)
    assert (ids[row.trained == 2] == EOS).all()
    assert ids[row.trained == 1].tolist() == [token for answer in answers for token in tok.encode(answer)]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=talk, most=st.integers(8, 60))
def test_rows_fit_train_something_and_every_answer_that_fits_once(
    tok: Tokenizer, messages: list[dict[str, str]], most: int
) -> None:
    dialog, counts = own_dialog(tok), Counts()
    rows = list(fit(dialog, messages, most, counts))
    assert all(len(row.ids) <= most and row.trained.any() for row in rows)
    assert all(row.ids[0] == messages_begin(tok, messages)[0] for row in rows)
    answers = [tok.encode(m["content"]) for m in messages if m["role"] == "assistant"]
    said = [part for row in rows for part in ended(row.ids, row.trained)]
    if not counts.cut and not counts.too_long:
        assert said == answers
    else:
        assert len(said) == len(answers) - counts.cut - counts.too_long
    kept = sum(row.trained.astype(bool).sum() for row in rows)
    whole = (dialog.document(messages).trained > 0).sum()
    assert kept <= whole
    assert (kept == whole) == (not counts.cut and not counts.too_long)


def messages_begin(tok: Tokenizer, messages: list[dict[str, str]]) -> list[int]:
    return render_messages(tok, messages)


def ended(ids: list[int], trained: np.ndarray) -> list[list[int]]:
    """The answers of a row that have their end, as ids."""
    found, now = [], list[int]()
    for token, mark in zip(ids, trained.tolist(), strict=True):
        if mark == 1:
            now.append(token)
        elif mark == 2:
            found.append(now)
            now = []
    return found


def talk_of(*turns: str) -> list[dict[str, str]]:
    roles = {"c": "context", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns]


def test_a_long_conversation_is_divided_between_turns_behind_its_context(tok: Tokenizer) -> None:
    messages = talk_of("c be kind", "u first?", "a one one one", "u second?", "a two two two", "u third?", "a three")
    dialog, counts = own_dialog(tok), Counts()
    both = len(render_messages(tok, messages[:5]))
    rows = list(fit(dialog, messages, both, counts))
    assert [row.ids for row in rows] == [
        render_messages(tok, messages[:5]),
        render_messages(tok, [messages[0], *messages[5:]]),
    ]
    assert (counts.divided, counts.whole, counts.lost) == (1, 0, 0)


def test_a_greeting_stays_with_the_first_question(tok: Tokenizer) -> None:
    messages = talk_of("a hello", "u first?", "a one", "u second?", "a two")
    rows = list(fit(own_dialog(tok), messages, len(render_messages(tok, messages)) - 1, Counts()))
    assert [row.ids for row in rows] == [render_messages(tok, messages[:3]), render_messages(tok, messages[3:])]


def test_a_long_context_loses_its_end_and_the_answer_stays_whole(tok: Tokenizer) -> None:
    messages = talk_of("c " + "given words " * 20, "u why?", "a because of it")
    dialog, counts = own_dialog(tok), Counts()
    (row,) = fit(dialog, messages, 40, counts)
    assert 35 < len(row.ids) <= 40
    assert ended(row.ids, row.trained) == [tok.encode("because of it")]
    assert tok.decode([i for i in row.ids if i > 5]).startswith("given words given")
    assert (counts.shortened, counts.cut) == (1, 0)
    assert counts.lost == len(dialog.document(messages).ids) - len(row.ids)


def test_a_long_answer_is_cut_without_an_end_and_a_question_that_fills_all_is_left_out(tok: Tokenizer) -> None:
    dialog, counts = own_dialog(tok), Counts()
    (row,) = fit(dialog, talk_of("c given", "u why?", "a " + "words " * 30), 24, counts)
    assert len(row.ids) == 24
    assert row.trained[-1] == 1
    assert EOS not in row.ids
    assert list(fit(dialog, talk_of("u " + "words " * 40, "a no"), 24, counts)) == []
    assert (counts.cut, counts.too_long) == (1, 1)


def test_leave_out_leaves_out_what_would_be_shortened(tok: Tokenizer) -> None:
    counts = Counts()
    messages = talk_of("u short?", "a yes", "u why?", "a " + "words " * 30)
    rows = list(fit(own_dialog(tok), messages, 24, counts, "leave_out"))
    assert [row.ids for row in rows] == [render_messages(tok, messages[:2])]
    assert (counts.too_long, counts.cut, counts.divided) == (1, 0, 1)


def test_texts_and_what_the_template_refuses_are_counted(tok: Tokenizer) -> None:
    own = own_dialog(tok)

    def refuses(messages: list[dict[str, str]]) -> None:
        raise ValueError("spells a special token")

    counts = Counts()
    assert len(response_tokens(corpus_table(ROWS), own, 60, counts)) == 2
    assert (counts.documents, counts.texts, counts.rows, counts.whole) == (3, 1, 2, 2)
    refusing = Dialog(**{**vars(own), "document": refuses})
    counts = Counts()
    assert len(response_tokens(corpus_table(ROWS), refusing, 60, counts)) == 0
    assert counts.not_rendered == 2
    assert "2 left out as the template cannot render them" in "".join(counts.lines())


def test_bytes_are_those_of_trained_answers(tok: Tokenizer) -> None:
    tokens = response_tokens(corpus_table(ROWS), own_dialog(tok), 60, Counts())
    assert tokens.table["bytes_answer"].to_pylist() == [len("Because é.".encode()), len("One.So.")]
    assert tokens.table["bytes_question"].to_pylist() == [0, 0]


def test_a_response_of_one_turn_has_the_ids_of_pretraining(tok: Tokenizer) -> None:
    tokens = response_tokens(corpus_table(ROWS[:2]), own_dialog(tok), 60, Counts())
    plain = encode_table(corpus_table(ROWS[:2]), tok)
    assert tokens.ids.tolist() == plain.ids.tolist()
    found = roles(tokens.document(0))
    assert tokens.trained is not None
    assert (tokens.trained[: tokens.lengths[0]] == 1).tolist() == (found == IN_ANSWER).tolist()


def corpus_of(folder: Path, rows: list[dict[str, str]]) -> Path:
    (folder / "corpus").mkdir(exist_ok=True)
    pq.write_table(corpus_table(rows), folder / "corpus" / "train-00000.parquet")
    return folder / "corpus"


def test_the_store_is_what_memory_has_and_another_context_or_policy_another_store(
    tmp_path: Path, tokenizer_folder: Path, tok: Tokenizer
) -> None:
    from data.tokens import open_tokens

    corpus = corpus_of(tmp_path, ROWS)
    where = (corpus, "train", tokenizer_folder, own_dialog(tok))
    stem, counts = sound_responses(*where, 60, tmp_path / "tokens", "shorten")
    stored, plain = (
        open_tokens(stem, tok.vocab_size),
        response_tokens(corpus_table(ROWS), own_dialog(tok), 60, Counts()),
    )
    assert stored.trained is not None
    assert plain.trained is not None
    assert stored.ids.tolist() == plain.ids.tolist()
    assert stored.trained.tolist() == plain.trained.tolist()
    assert (stored.offsets.tolist(), stored.prompts.tolist()) == (plain.offsets.tolist(), plain.prompts.tolist())
    assert sound_responses(*where, 60, tmp_path / "tokens", "shorten") == (stem, counts)
    others = [sound_responses(*where, *changed)[0] for changed in
              ((50, tmp_path / "tokens", "shorten"), (60, tmp_path / "tokens", "leave_out"))]  # fmt: skip
    assert len({stem, *others}) == 3
    marked = stem.with_name(stem.name + ".trained.bin")
    marked.write_bytes(bytes(marked.stat().st_size))
    assert sound_responses(*where, 60, tmp_path / "tokens", "shorten")[1] == counts
    assert open_tokens(stem, tok.vocab_size).trained.any()  # type: ignore[union-attr]


def test_a_split_without_an_answer_is_one_line(tmp_path: Path, tokenizer_folder: Path, tok: Tokenizer) -> None:
    corpus = corpus_of(tmp_path, [{"text": "prose"}, {"text": "more"}])
    with pytest.raises(UserError, match="holds no answer to fine-tune on"):
        sound_responses(corpus, "train", tokenizer_folder, own_dialog(tok), 60, tmp_path / "tokens", "shorten")


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_packed_rows_are_the_marks_of_their_targets(tok: Tokenizer, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [{"question": "q" * int(generator.integers(1, 9)), "answer": "a b " * int(generator.integers(0, 9)),
             "context": "c" * int(generator.integers(0, 5))} for _ in range(30)]  # fmt: skip
    tokens = response_tokens(corpus_table(rows), own_dialog(tok), 40, Counts())
    assert tokens.trained is not None
    for seq_len in (40, 13):  # also rows that are cut
        plan = epoch_plan(tokens, seq_len, seed, 0)
        batch = assemble(plan, np.arange(len(plan)), tokens, 0.0)
        expected = np.zeros_like(batch.weights)
        for row in range(len(plan)):
            place = 0
            for piece in range(plan.row_starts[row], plan.row_starts[row + 1]):
                first = tokens.offsets[plan.documents[piece]] + plan.starts[piece] + 1
                for target in range(first, first + plan.lengths[piece]):
                    expected[row, place] = tokens.trained[target] > 0
                    place += 1
        assert batch.weights.tolist() == expected.tolist()
        assert row_weights(plan, tokens, 0.0).tolist() == expected.sum(axis=1).tolist()
        assert batch.weights.sum() == (tokens.trained > 0).sum()


def test_every_packed_row_has_a_target(tok: Tokenizer) -> None:
    rows = [{"question": "why " * n, "answer": "so", "context": "given " * 30} for n in range(1, 12)]
    tokens = response_tokens(corpus_table(rows), own_dialog(tok), 24, Counts())
    plan = pack(tokens.lengths, 24)
    assert len(plan.lengths) == len(tokens)  # no row is cut in pieces
    assert (row_weights(plan, tokens, 0.0) > 0).all()


def greedily(dialog: Dialog, messages: list[dict[str, str]], most: int) -> list[list[int]]:
    """Rows of as many turns as fit, found one turn at a time; of conversations each turn of which fits."""
    head = messages[:1] if messages[0]["role"] == "context" else []
    turns = [messages[i : i + 2] for i in range(len(head), len(messages), 2)]
    rows, now = list[list[int]](), list[dict[str, str]]()
    for turn in turns:
        if now and len(dialog.document([*head, *now, *turn]).ids) > most:
            rows, now = [*rows, dialog.document([*head, *now]).ids], []
        now = [*now, *turn]
    return [*rows, dialog.document([*head, *now]).ids]


@pytest.mark.parametrize("seed", range(20))
def test_a_long_conversation_is_divided_as_if_each_turn_were_tried(tok: Tokenizer, seed: int) -> None:
    generator = np.random.default_rng(seed)
    words = [" ".join(["given"] * int(generator.integers(1, 9))) for _ in range(2 * int(generator.integers(9, 40)))]
    messages = talk_of(*(["c be kind"] * (seed % 2)), *(f"{'ua'[i % 2]} {text}" for i, text in enumerate(words)))
    dialog, counts = own_dialog(tok), Counts()
    most = int(generator.integers(120, 250))
    assert [row.ids for row in fit(dialog, messages, most, counts)] == greedily(dialog, messages, most)
    assert counts.lost == counts.cut == counts.shortened == 0


def test_the_work_of_a_long_conversation_grows_with_its_length(tok: Tokenizer) -> None:
    """Messages that are rendered, of which another's template renders all for each answer."""

    def rendered(number: int) -> int:
        own, seen = own_dialog(tok), [0]

        def document(messages: Messages) -> Row:
            seen[0] += len(messages) ** 2
            return own.document(messages)

        messages = talk_of(*(["u why?", "a so"] * number))
        list(fit(Dialog(**{**vars(own), "document": document}), messages, 100, Counts()))
        return seen[0]

    assert rendered(400) < 5 * rendered(100)


def test_counting_what_is_trained_takes_little_memory(tok: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.loader.COUNTED", 8000)
    rows = [{"question": "why", "answer": "so " * 1000}] * 60
    tokens = response_tokens(corpus_table(rows), own_dialog(tok), 4000, Counts())
    assert tokens.trained is not None
    plan = pack(tokens.lengths, 4000)
    tracemalloc.start()
    weights = row_weights(plan, tokens, 0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert weights.sum() == (tokens.trained > 0).sum()
    assert peak < 2 * len(tokens.ids)  # bytes
