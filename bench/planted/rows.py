"""Defects that one row shows by itself, and sound rows that resemble them.

A function takes a clean row and a random generator, and gives the row with the defect (or the look-alike) in it; None
where the row is too short to bear it.
"""

import random
import re
from itertools import pairwise
from typing import Any

from bench.planted import phrases
from bench.planted.sources import Row, body, clean_rows, corpora, json_lines, sentence_ends, sentences, with_body

# -- nothing, or next to nothing

BLANKS = ("", "", " ", "\n", "   ", "\t", "\u00a0", "\n\n \n", "\u2003")
SHORTEST_BYTES = 8  # of a whole row: what prepare asks for by default


def empty(row: Row, rng: random.Random) -> Row:
    """A blank (or no) question, answer or text."""
    blank = rng.choice((*BLANKS, None))
    if "text" not in row and rng.random() < 0.3:
        return {**row, "question": blank}
    if "text" not in row and rng.random() < 0.1:
        return {**row, "question": blank, "answer": blank}
    return with_body(row, blank)


def too_short(row: Row, rng: random.Random) -> Row:
    """Fewer than 8 bytes altogether, none of it blank."""
    if "text" in row:
        return {
            **row,
            "text": rng.choice(("ok.", "42", "* * *", "II.", "n/a", "-", "Yes.", "1.", "...", "page", "Fig.")),
        }
    question, answer = (
        rng.choice(("hi", "?", "a", "why", "Q1", "so", "ok", "1")),
        rng.choice(("ok", "-", "no", "1", "b")),
    )
    return {**row, "question": question, "answer": answer}


def short_and_sound(row: Row, rng: random.Random) -> Row:
    """Little text, but 8 bytes or more and all that is needed."""
    n, m = rng.randint(2, 99), rng.randint(2, 99)
    if "text" in row:
        return {**row, "text": rng.choice((f"It was {n} degrees.", f"Room {n}, floor {m}.", f"He won by {n} votes."))}
    return {**row, "question": f"{n} + {m} = ?", "answer": str(n + m)}


# -- cut off


def truncated(row: Row, rng: random.Random) -> Row | None:
    """The answer or text, cut inside a sentence, in a word or between two; 12 words or more stay and 5 or more go."""
    text = body(row)
    ends = [0, *sentence_ends(text, lines="text" not in row)]
    places = []
    for start, end in pairwise(ends):
        words = list(re.finditer(r"\S+", text[start:end]))
        for found in words[3:-2]:  # three words of the sentence are there and two are missing
            place = start + found.start()
            if 0.35 * len(text) <= place <= 0.85 * len(text):
                places.append((place, found.group()))
    rng.shuffle(places)
    inside = rng.random() < 0.5
    for place, word in places:
        if inside and len(word) >= 5 and word.isalpha():
            place += rng.randint(2, len(word) - 2)
        elif inside or not text[:place].rstrip()[-1].isalnum():
            continue
        kept = text[:place] if rng.random() < 0.2 else text[:place].rstrip()
        if len(kept.split()) >= 12 and len(text[place:].split()) >= 5:
            return with_body(row, kept)
    return None


# -- run-on loops


def repetition(row: Row, rng: random.Random) -> Row | None:
    """A word, a phrase or a sentence of the row again and again, at its end or in its middle, at times cut off."""
    text = body(row)
    words = [word for word in text.split() if any(c.isalpha() for c in word)]
    ends = [0, *sentence_ends(text, lines="text" not in row)]
    wholes = [text[a:b].strip() for a, b in pairwise(ends)]
    wholes = [said for said in wholes if len(re.findall(r"[^\W\d]+", said)) >= 5 and len(said.split()) <= 40]
    what = rng.choice(("word", "phrase", "sentence"))
    if not words:
        return None
    if what == "sentence" and wholes:
        unit, times, between = rng.choice(wholes), rng.randint(3, 15), rng.choice((" ", "\n", " "))
    elif what != "word" and len(words) >= 2:
        length = rng.randint(2, min(6, len(words)))
        start = rng.randrange(len(words) - length + 1)
        unit, times, between = (
            " ".join(words[start : start + length]),
            rng.randint(5, 30),
            rng.choice((" ", ", ", "\n")),
        )
    else:
        unit, times, between = rng.choice(words).strip(".,;:"), rng.randint(8, 30), rng.choice((" ", ", ", " "))
    loop = between.join([unit] * times)
    place = rng.choice(ends[1:])
    if rng.random() < 0.3 and place < len(text):
        return with_body(row, f"{text[:place]} {loop} {text[place:].lstrip()}")
    if rng.random() < 0.4 and len(unit) > 3:
        loop = f"{loop}{between}{unit[: rng.randint(1, len(unit) - 2)]}"
    return with_body(row, f"{text[:place]}{rng.choice((' ', chr(10)))}{loop}")


def echoed(row: Row, rng: random.Random) -> Row:
    """Something said twice, as people do."""
    sentence = rng.choice(sentences())
    if rng.random() < 0.5:
        return with_body(row, f"{body(row)} {sentence} I say it again: {sentence}")
    word = rng.choice(("very", "no", "far", "knock", "long", "really"))
    return with_body(row, f"{body(row)} {sentence} It was {word}, {word} indeed.")


# -- refusals


def refusal(row: Row, rng: random.Random) -> Row:
    """An assistant that refuses, or talks of itself, in place of the answer or after the begin of one."""
    said = rng.choice(phrases.REFUSALS)
    swaps = (("I'm", "I am"), ("can't", "cannot"), ("don't", "do not"), ("'", "’"), ("I am ", "I'm "), ("!", "."))
    for a, b in swaps:
        if rng.random() < 0.25:
            said = said.replace(a, b)
    if rng.random() < 0.2:
        other = rng.choice(phrases.REFUSALS)
        said = said if other[:12] == said[:12] else f"{said} {other}"
    chance = rng.random()
    if chance < 0.25:
        said = f"{rng.choice(phrases.REFUSAL_OPENERS)} {said}"
    elif chance < 0.45 or "text" in row:
        ends = sentence_ends(body(row), lines="text" not in row)
        said = f"{body(row)[: ends[0]].strip()} {said}"
    return with_body(row, said)


def no_refusal(row: Row, rng: random.Random) -> Row:
    """Somebody is sorry, or unable; nobody is an assistant."""
    return insert(row, rng.choice(phrases.NO_REFUSALS), rng)


# -- characters


def mojibake(row: Row, rng: random.Random) -> Row | None:
    """Text with typographic signs or accents in it, read in the wrong encoding: all of it, or one sign only."""
    text = typeset(body(row), rng)
    marks = [match for match in re.finditer(r"[^\x00-\x7f]+", text)]
    style = rng.choices(("cp1252", "latin-1", "twice", "replaced"), (5, 2, 2, 1))[0]
    if rng.random() < 0.3:
        mark = rng.choice(marks)
        wrong = text[: mark.start()] + misread(mark.group(), style) + text[mark.end() :]
    else:
        wrong = misread(text, style)
    return with_body(row, wrong)


def misread(text: str, style: str) -> str:
    """UTF-8 taken for cp1252 or latin-1, once or twice; the five bytes that cp1252 lacks stay or become U+FFFD."""
    for _ in range(2 if style == "twice" else 1):
        text = "".join(_character(byte, style) for byte in text.encode())
    return text


def _character(byte: int, style: str) -> str:
    try:
        return bytes([byte]).decode("latin-1" if style == "latin-1" else "cp1252")
    except UnicodeDecodeError:
        return "\ufffd" if style == "replaced" else chr(byte)


ACCENTS = {"a": "áàâäãå", "e": "éèêë", "i": "íîï", "o": "óôöø", "u": "úùü", "c": "ç", "n": "ñ", "s": "š"}


def typeset(text: str, rng: random.Random) -> str:
    """Typographic quotes and dashes for plain ones; where that changes nothing, quotes, a dash or accents anew."""
    changed = re.sub(r"(?<=\w)'(?=\w)", "’", text)
    changed = re.sub(r'(^|(?<=\s))"', "“", changed).replace('"', "”")
    changed = changed.replace("--", "—").replace(" - ", " – ").replace("...", "…")
    if rng.random() < 0.3:
        changed = changed.replace("$", rng.choice("£€"))
    if not changed.isascii() and rng.random() < 0.7:
        return changed
    words = [match for match in re.finditer(r"[A-Za-z]{3,}", changed)]
    named = [word for word in words if word.group()[0].isupper() and re.search("[aeioucns]", word.group())] or words
    style = rng.choice(("quotes", "dash", "accent", "accent"))
    if style == "accent" and named:
        word = rng.choice(named)
        letters = [i for i, c in enumerate(word.group(), word.start()) if c in ACCENTS]
        for i in rng.sample(letters, min(len(letters), rng.choice((1, 1, 2)))):
            changed = changed[:i] + rng.choice(ACCENTS[changed[i]]) + changed[i + 1 :]
    elif style == "quotes" and words:
        word = rng.choice(words)
        left, right = rng.choice(("“”", "‘’", "„“", "«»"))
        changed = f"{changed[: word.start()]}{left}{word.group()}{right}{changed[word.end() :]}"
    if not changed.isascii():
        return changed
    return changed + rng.choice(("…", " – José", "™", " — so they say", " (½)", " • Zoë"))


def real_accents(row: Row, rng: random.Random) -> Row:
    """Typographic signs and accents that are right."""
    return insert(with_body(row, typeset(body(row), rng)), rng.choice(phrases.REAL_ACCENTS), rng)


def control_characters(row: Row, rng: random.Random) -> Row:
    """C0 controls and DEL: stray ones, colours of a terminal, overstrikes, separators."""
    text = body(row)
    style = rng.choice(("stray", "stray", "colour", "overstrike", "separator"))
    for _ in range(1 if style == "colour" else rng.randint(1, 4)):
        place = rng.randint(0, len(text))
        word = re.compile(r"\w+").search(text, place)
        if style == "colour" and word:
            painted = f"\x1b[{rng.choice((1, 31, 32, 36))}m{word.group()}\x1b[0m"
            text = text[: word.start()] + painted + text[word.end() :]
        elif style == "overstrike" and word:
            text = text[: word.start()] + f"{word.group()[0]}\b" + text[word.start() :]
        else:
            signs = (
                "\x1c\x1d\x1e\x1f\x0b\x0c" if style == "separator" else "\x00\x01\x02\x03\x07\x0e\x10\x14\x19\x1a\x7f"
            )
            text = text[:place] + rng.choice(signs) + text[place:]
    return with_body(row, text)


def plain_white_space(row: Row, rng: random.Random) -> Row:
    """Tabs, line ends of Windows and no-break spaces are no control characters that harm."""
    text = body(row)
    place = rng.randint(0, len(text))
    return with_body(row, text[:place] + rng.choice(("\t", "\t\t", "\n\t- ", "\u00a0")) + text[place:])


# -- markup

TAGS = ("p", "div", "span", "b", "i", "strong", "em", "li", "td", "h2", "u", "font", "small", "center")
ATTRIBUTES = (
    'class="content"',
    'style="color:#333"',
    'id="main-7"',
    "align=center",
    'class="wp-caption-text"',
    "data-v",
)
EMPTY_TAGS = ("<br>", "<br/>", "<br />", "<hr>", '<img src="/static/a.png" alt="">', "<BR>", "<p/>", "<!-- more -->")
ENTITIES = (
    "&nbsp;",
    "&amp;",
    "&quot;",
    "&#39;",
    "&rsquo;",
    "&lt;",
    "&#8217;",
    "&mdash;",
    "&amp;nbsp;",
    "&hellip;",
    "&#x27;",
)
BROKEN_LATEX = (
    "$\\frac{{{n}}}{{{m}",
    "$\\frac{{{n}}}{{{m}}} of the total",
    "\\begin{{equation}} a = {n} + {m}",
    "\\begin{{align*}} x &= {n} \\\\ y &= {m}",
    "\\end{{itemize}}",
    "\\textbf{{{n} and more",
    "$$ \\sum_{{i=1}}^{{{n} x_i",
    "\\left( \\frac{{{n}}}{{{m}}}",
    "\\sqrt{{{n} + {m}",
    "\\item \\label{{eq:{n}",
    "$\\mathcal{{H",
)


def markup(row: Row, rng: random.Random) -> Row | None:
    """Left-over tags and entities, half tags, LaTeX that opens and never closes."""
    text = body(row)
    words = list(re.finditer(r"\S+", text))
    if not words:
        return None
    style = rng.choice(("pair", "pair", "single", "entity", "entity", "link", "half", "latex", "latex", "stray"))
    word = rng.choice(words)
    tag, attribute = rng.choice(TAGS), rng.choice(ATTRIBUTES)
    before, inner, after = text[: word.start()], word.group(), text[word.end() :]
    if style == "pair":
        opening = f"<{tag} {attribute}>" if rng.random() < 0.5 else f"<{tag}>"
        changed = f"{opening}{text}</{tag}>" if rng.random() < 0.4 else f"{before}{opening}{inner}</{tag}>{after}"
    elif style == "single":
        changed = before + inner + rng.choice((" ", "")) + rng.choice(EMPTY_TAGS) + after
    elif style == "entity":
        changed = before + inner + rng.choice(ENTITIES) + after
    elif style == "link":
        changed = f'{before}<a href="https://www.example.org/{rng.randint(1, 999)}?p=1">{inner}</a>{after}'
    elif style == "half":
        changed = rng.choice((f"{text} <{tag} {attribute.partition('=')[0]}=", f"{attribute}>{text}", f"{text}</{tag}"))
    elif style == "stray":
        changed = before + inner + f"</{tag}>" + after
    else:
        return insert(row, rng.choice(BROKEN_LATEX).format(n=rng.randint(2, 99), m=rng.randint(2, 99)), rng)
    return with_body(row, changed)


def no_markup(row: Row, rng: random.Random) -> Row:
    """Formulas that are whole, and signs that only look like markup."""
    return insert(row, rng.choice(phrases.NO_MARKUP), rng)


# -- other languages


def language(row: Row, rng: random.Random) -> Row | None:
    """A row in one of eight other languages in place of this one: encyclopaedia or textbook."""
    code = rng.choice(("ar", "hi", "th", "zh", "ja", "ko", "es", "pt"))
    if code in ("ar", "hi", "th", "zh"):
        context, question, answer = rng.choice(squad(code))
        return {"text": context} if "text" in row else {**row, "question": question, "answer": answer}
    paragraphs = prose(code)
    i = rng.randrange(len(paragraphs) - 2)
    if "text" in row:
        return {"text": "\n\n".join(paragraphs[i : i + 2])}
    first, _, _ = re.sub(r"\s+", " ", paragraphs[i]).partition("。" if code == "ja" else ". ")
    return {**row, "question": first, "answer": paragraphs[i + 1]}


_CACHE: dict[str, Any] = {}


def squad(code: str) -> list[tuple[str, str, str]]:
    """Context, question and answer of xquad."""
    if code not in _CACHE:
        import gzip
        import json

        with gzip.open(corpora() / "multilingual" / f"xquad.{code}.json.gz", "rt", encoding="utf-8") as file:
            articles = json.load(file)["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        _CACHE[code] = [(p["context"], qa["question"], qa["answers"][0]["text"]) for p in paragraphs for qa in p["qas"]]
    return _CACHE[code]


def prose(code: str) -> list[str]:
    """Paragraphs of translated textbooks that are prose: no formula, code, list or heading, and not left in English."""
    if code not in _CACHE:
        texts = [row["text"] for row in json_lines(f"multilingual/platypus_{code}_docs.jsonl.gz")]
        found = []
        for paragraph in (part.strip() for text in texts for part in re.split(r"\n\s*\n", text)):
            letters = re.findall(r"[^\W\d_]", paragraph)
            if len(letters) < (120 if code in ("es", "pt") else 50) or re.search(
                r"[$`|<>\\{}#]|^\W|https?:", paragraph
            ):
                continue
            foreign = sum(c > "\u2e80" for c in letters) / len(letters)
            common = len(re.findall(r"(?i)\b(?:que|para|una?|uma?|los|las|por|não|com)\b", paragraph))
            if foreign > 0.6 if code in ("ja", "ko") else common >= 4:
                found.append(paragraph)
        _CACHE[code] = found
    return _CACHE[code]


def foreign_words(row: Row, rng: random.Random) -> Row:
    """A foreign name or phrase in an English row."""
    said = rng.choice(
        ("déjà vu", "Schadenfreude", "東京", "Москва", "hasta la vista", "per aspera ad astra", "Weltschmerz")
    )
    return insert(row, f"They call it {said}, as one says there.", rng)


# -- text put into a row


def insert(row: Row, said: str, rng: random.Random) -> Row:
    """`said` after one of the sentences of the row, or on a line of its own."""
    text = body(row)
    ends = sentence_ends(text, lines="text" not in row)
    place = rng.choice(ends)
    between = rng.choice((" ", " ", "\n"))
    return with_body(row, f"{text[:place].rstrip()}{between}{said}{between}{text[place:].lstrip()}".rstrip())


LEADS = ("", "", "", "Q: ", "Problem {n}. ", "> ", "Exercise: ", "({n}) ", "Question: ")


def contamination(row: Row, question: str, rng: random.Random) -> Row:
    """An evaluation question inside the row: verbatim, or with other case, white space or punctuation."""
    style = rng.choice(("verbatim", "verbatim", "case", "space", "signs"))
    if style == "case":
        question = rng.choice((question.lower(), question.upper(), question.title()))
    elif style == "space":
        question = re.sub(r"\s+", lambda _: rng.choice((" ", "  ", "\n", "\t", " ")), question)
    elif style == "signs":
        question = re.sub(r"(?<=\w)['’](?=\w)", "’" if "'" in question else "'", question)
        question = re.sub(r"[,;?.](?=\s|$)", lambda match: rng.choice(("", match.group(), "!")), question)
    lead = rng.choice(LEADS).format(n=rng.randint(1, 200))
    return insert(row, lead + question, rng)


def evaluation_questions() -> list[str]:
    """The questions of the evaluation set, in the order of its file."""
    return [row["question"] for row in clean_rows("gsm8k_test")]
