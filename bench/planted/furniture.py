"""What the printing, scanning and sharing of a book leaves in its text: planted into whole chapters.

Pages of 24 to 45 lines: page numbers, running heads with the number, printer's signatures; at the ends a licence,
credits, an imprint, the end of the e-book.
"""

import random
from collections.abc import Callable

from bench.planted.sources import Row

STYLES = ("number", "number", "head", "head", "licence", "licence", "imprint", "signature")


def page_furniture(row: Row, rng: random.Random) -> Row | None:
    """A chapter as it comes out of a scan or a download."""
    lines = row["text"].split("\n")
    length = rng.randint(24, 45)
    style = rng.choice(STYLES)
    if style in ("licence", "imprint"):
        before, after = (licence if style == "licence" else imprint)(row["title"].title(), rng)
        return {**row, "text": "\n\n".join(part for part in (before, row["text"], after) if part)}
    if len(lines) < 4 * length:
        length = len(lines) // 4  # three breaks of a page at least
    if length < 10:
        return None
    made = {"number": number, "head": head, "signature": signature}[style](row, rng)
    first = rng.randint(1, 400)
    taken: list[str] = []
    for page, start in enumerate(range(0, len(lines), length), first):
        if start:
            taken += made(page)
        taken += lines[start : start + length]
    return {**row, "text": "\n".join(taken)}


Made = Callable[[int], list[str]]


def number(row: Row, rng: random.Random) -> Made:
    """Lines that hold the page's number."""
    form = rng.choice(("{}", "{}", "{:>40}", "- {} -", "[{}]", "[Pg {}]", "Page {}", "{} | P a g e", "{{{}}}", "p. {}"))
    apart = rng.random() < 0.7
    return lambda page: ["", form.format(page), ""] if apart else [form.format(page)]


def head(row: Row, rng: random.Random) -> Made:
    """Running heads: the book's title on the left pages, the chapter's on the right ones, each with the number."""
    title = row["title"].upper() if rng.random() < 0.7 else row["title"].title()
    chapter = rng.choice((title, row["text"].split("\n")[0].strip()[:40] or title))
    gap = rng.choice(("  ", "    ", " ", "\t", " " * 20))
    apart = rng.random() < 0.6

    def made(page: int) -> list[str]:
        line = f"{page}{gap}{title}" if page % 2 == 0 else f"{chapter}{gap}{page}"
        return ["", line, ""] if apart else [line]

    return made


def signature(row: Row, rng: random.Random) -> Made:
    """The marks that told the binder the order of the sheets, with the volume."""
    volume = rng.choice(("VOL. I.", "VOL. II.", "VOL. III."))
    letters = "BCDEFGHIKLMNOPQRSTUXYZ"

    def made(page: int) -> list[str]:
        letter = letters[page // 4 % len(letters)]
        return ["", f"{volume}{' ' * 12}{letter}{page % 4 + 1 if page % 4 else ''}", ""]

    return made


PEOPLE = (
    "David Widger",
    "Judith Boss",
    "an anonymous volunteer",
    "Al Haines",
    "the Online Distributed Proofreading Team",
)


def licence(title: str, rng: random.Random) -> tuple[str, str]:
    """What a digital library puts before and after a book; one of the two may be missing."""
    number, person = rng.randint(100, 60000), rng.choice(PEOPLE)
    befores = (
        f"The Project Gutenberg EBook of {title}\n\nThis eBook is for the use of anyone anywhere at no cost and with\n"
        "almost no restrictions whatsoever.  You may copy it, give it away or\nre-use it under the terms of the "
        f"Project Gutenberg License included\nwith this eBook or online at www.gutenberg.org\n\nTitle: {title}\n\n"
        "Release Date: "
        f"March 12, 2008 [EBook #{number}]\n\nLanguage: English\n\nProduced by {person}\n\n"
        f"*** START OF THIS PROJECT GUTENBERG EBOOK {title.upper()} ***",
        f"Project Gutenberg's {title}\n\n[Etext #{number}]\n\nE-text prepared by {person}",
        "This is a digital copy of a book that was preserved for generations on library shelves before it was\n"
        "carefully scanned by Google as part of a project to make the world's books discoverable online.",
        f"Produced by {person}. This file was made from images generously made available by The Internet Archive.",
        "This work is licensed under a Creative Commons Attribution-ShareAlike 3.0 Unported License. You are free\n"
        "to share and to adapt it as long as you give appropriate credit.",
    )
    afters = (
        f"End of the Project Gutenberg EBook of {title}\n\n*** END OF THIS PROJECT GUTENBERG EBOOK "
        f"{title.upper()} ***\n\n***** This file should be named {number}.txt or {number}.zip *****",
        f"End of Project Gutenberg's {title}",
        f"*** END OF THE PROJECT GUTENBERG EBOOK {title.upper()} ***\n\nUpdated editions will replace the previous "
        "one--the old editions will\nbe renamed.\n\nCreating the works from public domain print editions means that "
        "no\none owns a United States copyright in these works.",
        "Transcriber's Note: Obvious printer's errors have been corrected. Hyphenation has been made consistent.",
    )
    which = rng.choice(("before", "after", "both"))
    return (rng.choice(befores) if which != "after" else "", rng.choice(afters) if which != "before" else "")


def imprint(title: str, rng: random.Random) -> tuple[str, str]:
    """The publisher's and the printer's pages."""
    year, n = rng.randint(1890, 2010), rng.randint(1000, 9999)
    befores = (
        f"{title.upper()}\n\nLONDON: PRINTED BY WILLIAM CLOWES AND SONS,\nSTAMFORD STREET AND CHARING CROSS.",
        f"Copyright © {year} by the publisher. All rights reserved.\n\nISBN 0-14-0{n}-{n % 10}\n\nFirst published "
        f"{year}. Reprinted {year + 2}, {year + 5}.\n\nPrinted in Great Britain by Clay and Co., Bungay",
        f"THE WORLD'S LIBRARY\n\n{title.upper()}\n\nNEW YORK\nCHARLES SCRIBNER'S SONS\n{year}\n\n[All rights reserved]",
        "This page intentionally left blank",
        f"Digitized by the Internet Archive\nin {year + 100} with funding from\nUniversity of Toronto\n\n"
        f"http://www.archive.org/details/book{n}",
    )
    afters = (
        "PRINTED BY BALLANTYNE, HANSON AND CO.\nEDINBURGH AND LONDON",
        "R. Clay, Sons, and Taylor, Printers, Bread Street Hill.",
        f"Set in 10 on 12 point Baskerville and printed on acid-free paper.\n\n{n}-{year}",
        "[Illustration: Publisher's device]\n\nBy the same author\n\nUniform with this volume, price 3s. 6d. each",
    )
    which = rng.choice(("before", "after", "both"))
    return (rng.choice(befores) if which != "after" else "", rng.choice(afters) if which != "before" else "")
