"""Whether a checkpoint's tokenizer fits its model and gives back what it was given: one `Line` a check.

  vocabulary      every id has a row in the embedding
  special tokens  pad, bos and eos: there, different, and the same in all files
  lossless        odd strings come back as they were
  control         text that spells a special token stays text
  template        a conversation becomes the ids that training used; the answer begins where the prompt ends

In: a `Folder`, a `Reader`, the rows of the embedding as config.json states them. Of loam's own everything must be as
loam writes it; others' habits, such as pad = eos, are warnings that say what follows.
"""

from typing import Any

from common.errors import UserError
from common.text import error_line, one_line
from eval.soundness import ANOTHER, FAIL, PASS, SKIP, WARN, Folder, Line
from eval.speaker import ROLES, Messages, Reader
from tokenizer.template import BOS, CHAT_TEMPLATE, EOS, NUM_SPECIAL, PAD, render_prompt

ODD = (
    "", " ", "  two  spaces ", "\ttab\n\nlines\r\nand a carriage\rreturn",
    "e\u0301 is not \u00e9, \u212b is not \u00c5", "ﬁ ½ ² Ⅷ ａ", "naïve Straße İstanbul ǅ",
    "漢字 かな 한국어 ไทย", "नमस्ते", "العربية עברית", "🦊🏽 👩\u200d👩\u200d👧 🇩🇪",
    "\u200b\u00ad\ufeff\u202e", "a\u00a0b\u3000c", "\x00\x01\x1b[31m\x7f", "▁ Ġ ## </w> ĉ",
    "0123456789 1e-9 ١٢٣", "𝔘𝔫𝔦 \U0010ffff", "def f(x):\n    return x  # ok\n",
    "<b>&amp;</b> \\n %20 {{ x }}", "don't DON'T 'tis", "a" * 300,
)  # fmt: skip
QUESTION, ANSWER = "How many legs has a spider?", "It has eight."
CONVERSATIONS: tuple[Messages, ...] = (
    [{"role": "user", "content": QUESTION}],
    [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER},
     {"role": "user", "content": " And a crab?\n"}],
    [{"role": "context", "content": "Seen in a web."}, {"role": "user", "content": "What, exactly?"}],
    *([{"role": "user", "content": odd}] for odd in ODD if odd),
)  # fmt: skip


def check_vocabulary(folder: Folder, reader: Reader, rows: int | None) -> Line:
    """The tokenizer's size against the embedding's rows."""
    if rows is None:
        return Line(SKIP, "vocabulary", "config.json states no vocab_size")
    figures = {"tokenizer": reader.size, "embedding": rows}
    both = f"the tokenizer has {reader.size:,} tokens, the embedding {rows:,} rows"
    if reader.size > rows:
        found = f"{both}: ids from {rows:,} up have none"
        return Line(FAIL, "vocabulary", found, "take the tokenizer that this model was trained with", figures)
    highest = max(token for odd in ODD for token in [0, *reader.encode(odd)])
    if highest >= rows:
        return Line(FAIL, "vocabulary", f"{both}, but it gives id {highest:,}", ANOTHER, figures)
    if reader.size == rows:
        return Line(PASS, "vocabulary", f"{both}: equal", figures=figures)
    if folder.own:
        return Line(FAIL, "vocabulary", both, "they are equal in what loam writes, which reads nothing else", figures)
    return Line(PASS, "vocabulary", f"{both}: padded by {rows - reader.size:,}", figures=figures)


def check_special(folder: Folder, reader: Reader, rows: int | None) -> Line:
    """pad, bos and eos are there, distinct, inside the embedding, and the same wherever a file states them."""
    ids = reader.roles
    wrong: list[str] = []
    stated: dict[str, dict[str, Any]] = {"config.json": folder.config, "generation_config.json": folder.generation}
    for name, values in stated.items():
        if folder.lacks(name):
            continue
        for role in ROLES:
            said = values.get(f"{role}_token_id")
            if said != ids[role] and (folder.own or said is not None):
                listed = said if isinstance(said, list) else [said]
                if folder.own or (ids[role] is not None and ids[role] not in listed):
                    wrong.append(f"{role} is {said} in {name} and {ids[role]} in the tokenizer")
    if folder.own:
        expected = {"pad": PAD, "bos": BOS, "eos": EOS}
        wrong += [f"{role} is {ids[role]}, not {expected[role]}" for role in ROLES if ids[role] != expected[role]]
    alike = [f"{a} = {b}" for a, b in (("pad", "eos"), ("bos", "eos"), ("pad", "bos"))
             if ids[a] is not None and ids[a] == ids[b]]  # fmt: skip
    outside = [f"{role} is {ids[role]:,} of {rows:,} rows" for role in ROLES if rows and (ids[role] or 0) >= rows]
    absent = [role for role in ROLES if ids[role] is None]
    figures = {**ids, "alike": alike, "absent": absent, "disagreeing": wrong}
    found = ", ".join(f"{role} {ids[role]}" for role in ROLES if ids[role] is not None)
    if folder.own and (wrong or alike or outside):
        said = "; ".join([*alike, *wrong, *outside][:3])
        return Line(
            FAIL, "special tokens", said, "a model that was trained otherwise does not stop: " + ANOTHER, figures
        )
    if outside:
        return Line(FAIL, "special tokens", "; ".join(outside), ANOTHER, figures)
    if "eos" in absent:
        return Line(WARN, "special tokens", f"{found or 'none'}; no eos", "it cannot stop: limit its tokens", figures)
    if wrong:
        return Line(WARN, "special tokens", "; ".join(wrong[:3]), "say the ids yourself when you generate", figures)
    if alike:
        todo = (
            "mask padding by the attention mask, not by its id, or eos is never learned" if "pad = eos" in alike else ""
        )
        return Line(WARN if todo else PASS, "special tokens", f"{found}: {', '.join(alike)}", todo, figures)
    if absent:
        found += f"; no {', no '.join(absent)}"
        return Line(PASS, "special tokens", found, figures=figures)
    return Line(PASS, "special tokens", f"{found}: distinct, the same in every file that states them", figures=figures)


def check_lossless(folder: Folder, reader: Reader) -> Line:
    """decode(encode(s)) == s."""
    lost = [odd for odd in ODD if reader.decode(reader.encode(odd)) != odd]
    figures = {"strings": len(ODD), "lost": len(lost)}
    if lost:
        came = one_line(repr(reader.decode(reader.encode(lost[0]))), 60)
        found = f"{len(lost)} of {len(ODD)} odd strings do not come back: {one_line(ascii(lost[0]), 60)} -> {came}"
        todo = ANOTHER if folder.own else "do not count on exact text, such as code or quotations"
        return Line(FAIL if folder.own else WARN, "lossless", found, todo, figures)
    return Line(PASS, "lossless", f"{len(ODD)} odd strings come back as they were", figures=figures)


def check_control(reader: Reader) -> Line:
    """Content that spells a special token is encoded as text."""
    if not reader.control:
        return Line(SKIP, "control", "the tokenizer names no special tokens")
    ids = set(reader.control.values())

    def taken(encode: Any) -> list[str]:
        return [token for token in reader.control if ids.intersection(encode(f"a {token} b"))]

    plain, as_text = taken(reader.encode), taken(reader.encode_as_text)
    figures = {"special_tokens": len(reader.control), "taken_for_control": plain, "even_as_text": as_text}
    if plain:
        found = f"text that spells {plain[0]} becomes the token ({len(plain)} of {len(reader.control)} special tokens)"
        todo = "encode what users type with split_special_tokens=True"
        return Line(WARN, "control", found, "strip them from what users type" if as_text else todo, figures)
    return Line(PASS, "control", f"text that spells one of {len(ids)} special tokens stays text", figures=figures)


def check_template(folder: Folder, reader: Reader, eos: list[int]) -> Line:
    """The chat template renders; loam's own gives the ids that training used, others' end where the answer begins."""
    if reader.converse is None:
        if folder.own:
            return Line(FAIL, "template", "tokenizer_config.json holds no chat template", ANOTHER)
        return Line(SKIP, "template", "there is none: a base model, to be given beginnings of texts")
    try:
        return _own_template(folder, reader) if folder.own else _foreign_template(reader, eos)
    except Exception as error:  # whatever a template of anybody's makes jinja or transformers raise
        return Line(FAIL, "template", f"it does not render: {error_line(error, 200)}", ANOTHER)


def own_ids(reader: Reader, messages: Messages) -> list[int]:
    """A conversation as training's template renders it, up to where the answer begins."""
    *turns, last = messages
    context = turns.pop(0)["content"] if turns and turns[0]["role"] == "context" else None
    history = [(asked["content"], said["content"]) for asked, said in zip(turns[::2], turns[1::2], strict=True)]

    class Encoder:
        encode = staticmethod(reader.encode_as_text)

    return render_prompt(Encoder, last["content"], context, history)


def _own_template(folder: Folder, reader: Reader) -> Line:
    assert reader.converse is not None
    other = [messages for messages in CONVERSATIONS if reader.converse(messages, True) != own_ids(reader, messages)]
    figures = {"conversations": len(CONVERSATIONS), "differing": len(other)}
    if other:
        found = f"{len(other)} of {len(CONVERSATIONS)} conversations get other ids than training gave them"
        todo = "put back the chat_template of its run's tokenizer/tokenizer_config.json"
        return Line(FAIL, "template", found, todo, figures)
    believed = [token for token in list(reader.control)[:NUM_SPECIAL] if not _refuses(reader, token)]
    if believed:
        found = f"it takes content that spells {believed[0]} for the token"
        return Line(FAIL, "template", found, "put back the chat_template of its run's tokenizer", figures)
    found = f"{len(CONVERSATIONS)} conversations get the ids that training gives them"
    if folder.tokenizer.get("chat_template") != CHAT_TEMPLATE:
        todo = "it was edited, or written by another version of loam"
        return Line(WARN, "template", f"{found}, but its text is not this version's", todo, figures)
    return Line(PASS, "template", f"{found}; content that spells a marker is refused", figures=figures)


def _refuses(reader: Reader, token: str) -> bool:
    assert reader.converse is not None
    try:
        reader.converse([{"role": "user", "content": f"a {token} b"}], True)
    except Exception:
        return True
    return False


def _foreign_template(reader: Reader, eos: list[int]) -> Line:
    assert reader.converse is not None
    asked, said = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
    prompt, whole = reader.converse([asked], True), reader.converse([asked, said], False)
    figures: dict[str, Any] = {"prompt_tokens": len(prompt)}
    text = reader.decode(prompt)
    if QUESTION not in text:
        return Line(FAIL, "template", "the prompt that it renders does not hold the question", ANOTHER, figures)
    after = reader.decode(whole[len(prompt) :])
    bos = reader.roles["bos"]
    if bos is not None and bos not in eos and prompt.count(bos) > 1:
        found = f"the prompt holds bos {prompt.count(bos)} times"
        return Line(WARN, "template", found, "give it ids by apply_chat_template alone", figures)
    if whole[: len(prompt)] != prompt or ANSWER not in after:
        found = "the prompt does not end where an answer begins in the same conversation"
        return Line(WARN, "template", found, "look at both renderings before you trust its answers", figures)
    end = reader.decode(whole).rpartition(ANSWER)[2]
    if not set(eos).intersection(whole[len(prompt) :]):
        found = f"behind an answer it puts {one_line(repr(end), 40)}, and no token that ends generation"
        return Line(WARN, "template", found, "name that token as eos when you generate", figures)
    before = after.partition(ANSWER)[0]
    thought = f", after {one_line(repr(before), 40)}" if before else ""
    found = (
        f"it renders; a prompt of {len(prompt)} tokens ends where the answer begins{thought}; the answer ends with eos"
    )
    return Line(PASS, "template", found, figures=figures)


def failed_tokenizer(error: BaseException, folder: Folder) -> Line:
    """The line of a tokenizer that does not open."""
    said = one_line(str(error).replace(f"{folder.path}/", ""), 300)
    kind = "" if isinstance(error, UserError) else f" ({type(error).__name__})"
    return Line(FAIL, "tokenizer", f"it cannot be opened: {said}{kind}", ANOTHER)
