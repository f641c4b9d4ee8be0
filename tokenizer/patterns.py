"""What a byte-level tokenizer splits text by before it merges pairs, and where a text may be cut without changing that.

In: the name of a family. Out: its regular expression (Oniguruma's dialect, as `tokenizers` and llama.cpp read it).
"""

import re

# What text is split by before pairs are merged: the families that llama.cpp knows by name (tokenizer.ggml.pre).
PATTERNS = {
    # qwen2: each digit is a token of its own
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    # llama-bpe: up to three digits together
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    # gpt-2: numbers of any length, and no line breaks with the sign in front of them
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
# Characters that the patterns call \s, but for line breaks. Behind a run of them `\s*[\r\n]+` (not gpt2's) looks for a
# line break at each place, and Oniguruma panics after 10 million tries: a run of that length is split by `split_white`.
WHITE = "\t\x0b\x0c \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
LONG_WHITE = 1 << 22
_WHITE_RUN = re.compile(f"[{WHITE}]+")

# Where a text may be cut without a change of its ids: what stands after a line break begins a new word. qwen2 and
# llama3 take white space up to its last line break as one word; gpt2 parts the last of several from the others where
# text follows, so there a break must stand alone. All that is \S in Python is so in the patterns too.
LINE_BREAK, LONE_BREAK = re.compile(r"\n(?=\S)"), re.compile(r"(?<=\S)\n(?=\S)")
AFTER_BREAK = re.compile(r"\n")  # where no token but the break itself holds one


def split_white(text: str) -> list[str]:
    """The text in pieces, every second one white space of about LONG_WHITE characters or more, a word of the pattern.

    It is a run without a line break, less its last character, which may belong to what follows. A run with a
    line break behind it is no word by itself, and is matched at once.
    """
    pieces, done = [], 0
    for place in range(0, len(text), LONG_WHITE):  # a run of this length has a character at one of these places
        run = _WHITE_RUN.match(text, place)
        if run is None or place < done:
            continue
        before = text[max(done, place - LONG_WHITE) : place]
        start, end = place - len(before) + len(before.rstrip(WHITE)), run.end()
        if end - start >= LONG_WHITE and text[end : end + 1] not in ("\r", "\n"):
            end -= end < len(text)
            pieces += [text[done:start], text[start:end]]
            done = end
    return [*pieces, text[done:]]
