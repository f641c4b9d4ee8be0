"""What of loam's own rules a tokenizer and template that were made elsewhere do not keep, and what follows from it.

In: a folder. Out: one line a rule that is broken, none where all are kept.
"""

from pathlib import Path

from tokenizer.foreign import ANSWER, QUESTION, Words

ODD = {
    "decomposed accents": "e\u0301 is not \u00e9, \u212b is not \u00c5",
    "spaces": "  two  spaces \t tabs\n\n\nlines   ",
    "line ends of Windows": "one\r\ntwo\r\n",
    "compatibility characters": "ﬁ ½ ² Ⅷ ａ",
    "emoji": "🦊🏽 👩\u200d👩\u200d👧 🇩🇪",
    "rare scripts": "𝔘𝔫𝔦 漢字 नमस्ते ไทย \U0010ffff",
    "control characters": "\x00\x01\x1b[31m\x7f",
    "capitals and punctuation": "Don't SHOUT , he said ; not 'so' .",
}


def broken_invariants(folder: Path) -> list[str]:
    """One line for each rule, with its consequence; UserError where the folder cannot be used at all."""
    words = Words(folder)
    return [*_of_text(words), *_of_tokens(words, folder), *_of_template(words)]


def _of_text(words: Words) -> list[str]:
    """Whether text comes back from its ids."""
    found = []
    unk = words.roles.get("unk")
    lost, unknown = [], []
    for name, text in ODD.items():
        ids = words.encode(text)
        back = words.decode_bytes(ids)
        if unk is not None and unk in ids:
            unknown.append(name)
        elif back not in (text.encode(), b" " + text.encode()):  # sentencepiece puts a space in front
            lost.append(name)
    if unknown:
        found.append(
            f"its alphabet lacks bytes ({', '.join(unknown)} become the unknown token): what that stands for is lost, "
            "and answers that hold it cannot be learned"
        )
    if lost:
        found.append(
            f"its tokenizer is not lossless ({', '.join(lost)} do not come back as they were): answers are learned in "
            "the form that it makes of them, so do not count on exact text, such as code or quotations"
        )
    return found


def _of_tokens(words: Words, folder: Path) -> list[str]:
    """bos, eos, pad, the context."""
    found = []
    if words.roles.get("bos") is None:
        found.append(
            "it names no bos: rows and prompts begin with the template's first token, and the first is no target"
        )
    elif not words.begin:
        found.append(
            "neither its template nor its tokenizer puts its bos in front: prompts begin without one, as theirs do"
        )
    if words.end is None:
        found.append(
            "its template puts no special token behind an answer: eos is added to each row, behind its last answer"
        )
    pad, eos = words.roles.get("pad"), words.eos
    if pad is not None and pad in eos:
        found.append(
            "its pad is its eos: here eos is learned all the same, but a trainer that masks padding by its id would "
            "not teach the model to stop"
        )
    if not isinstance(words.config.get("max_position_embeddings"), int) and (folder / "config.json").is_file():
        found.append("its config.json states no context (max_position_embeddings): how long a row may be is not known")
    return found


def _of_template(words: Words) -> list[str]:
    """Where the template's renderings of a conversation and of its prompts part."""
    if words.stated is None:
        return [
            "it has no chat template, so rows are written plainly ('Question:', 'Answer:'), which it has not been "
            "trained on: keep chat_template.jinja beside the weights, or others will ask it in another form"
        ]
    found = []
    asked, said = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
    if not words.continues:
        found.append("its template does not put an answer where its prompt ends: no row can be trained on")
    elif words.header:
        found.append(
            "its template has no generation prompt: what it writes before an answer is added to prompts here, and "
            "others leave it to the model"
        )
    if not words.takes_system:
        found.append("its template has no role for a system's words: contexts are put before the question")
    try:
        two = words.document([asked, said, asked, said])
        begun = (two.trained[1:] > 0) & (two.trained[:-1] == 0)
        if words.continues and begun.sum() < 2:
            found.append("its template changes earlier turns: of a conversation only the last answer is trained")
    except ValueError as error:
        found.append(f"its template does not render a second question ({error}): such conversations are left out")
    try:
        words.document([{"role": "user", "content": f"a {next(iter(words.special), '')} b"}, said])
    except ValueError:
        found.append("text that spells one of its special tokens cannot be kept apart from it: such rows are left out")
    if "strftime_now" in words.template:
        found.append("its template writes today's date: rows of another day, and their losses, differ by it")
    return found
