"""Detection of encodings: right or undecided on real files, UTF-8 never touched, and no byte is lost."""

import io
import os
import random
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.alphabets import LANGUAGES
from data.decoding import CP1252, MIXED, SURE, Detection, detect
from data.readers import detected, read_file
from data.sources import SourceConfig, check_sources, list_files

CORPORA = os.environ.get("LOAM_CORPORA", "")
needs_corpora = pytest.mark.skipif(not CORPORA, reason="LOAM_CORPORA is not set")
GERMAN = (
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft begabt und sollen einander "
    "im Geiste der Brüderlichkeit begegnen. Jeder hat Anspruch auf die in dieser Erklärung verkündeten Rechte. Größe!\n"
)
RUSSIAN = (
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны "
    "поступать в отношении друг друга в духе братства. Каждый человек имеет право на жизнь, на свободу.\n"
)
CROATIAN = "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima. Što želiš više? Čovječanstvo.\n"
JAPANESE = (
    "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は理性と良心とを授け。\n"
)
CHINESE = (
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。人人有资格享有本宣言所载的"
    "一切权利和自由，不分种族、肤色、性别、语言、宗教。\n"
)


def found(content: bytes) -> Detection:
    return detect(lambda: io.BytesIO(content))


def decoded(content: bytes) -> str | None:
    detection = found(content)
    return content.decode(detection.codec, detection.errors) if detection.encoding else None


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "cp1252"),
        (GERMAN, "latin-1"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (RUSSIAN, "iso8859_5"),
        (RUSSIAN, "cp866"),
        (CROATIAN, "cp1250"),
        (CROATIAN, "iso8859_2"),
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (CHINESE, "gb18030"),
        *((text, wide) for text in (GERMAN, RUSSIAN, CHINESE) for wide in ("utf-16-le", "utf-16-be", "utf-32-le")),
        *((text, marked) for text in (GERMAN, CHINESE) for marked in ("utf-16", "utf-32", "utf-8-sig")),
    ],
)
def test_texts_in_legacy_encodings_are_read_as_they_were(text: str, encoding: str) -> None:
    assert decoded((text * 3).encode(encoding)) == text * 3
    if encoding.isalnum():
        detection = found((text * 3).encode(encoding))
        assert detection.confidence >= SURE
        assert str(detection.encoding) in str(detection.note)


def test_what_is_no_text_of_any_encoding_is_undecided_and_lists_its_candidates() -> None:
    for seed in range(20):
        shuffled = random.Random(seed)
        content = b"".join(b"a%cb %c" % (shuffled.randrange(128, 256), shuffled.randrange(128, 256)) for _ in range(99))
        detection = found(content)
        assert detection.encoding is None, seed
        assert detection.confidence < SURE
        assert "not decided (" in detection.detail
        assert detection.note is None


def test_one_byte_that_several_scripts_write_is_undecided_and_a_word_that_says_more_is_not() -> None:
    assert found(b"one \xff two").encoding is None  # y with diaeresis, or the Russian word for I
    assert decoded(b"cr\xe8me br\xfbl\xe9e, caf\xe9, d\xe9j\xe0 vu") == "crème brûlée, café, déjà vu"


def test_a_file_half_of_which_is_utf8_is_undecided() -> None:
    halves = (GERMAN * 5).encode() + (GERMAN * 5).encode("cp1252")
    assert found(halves).encoding is None


# -- UTF-8 that is whole, and UTF-8 with stray bytes


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
def test_valid_utf8_is_utf8_whatever_it_holds(text: str) -> None:
    if text.startswith(("\ufeff", "\ufffe")):
        text = "x" + text
    assert decoded(text.encode()) == text
    assert found(text.encode())[:3] == ("utf-8", 1.0, None)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_decoding_stray_bytes_never_raises_and_loses_no_character(content: bytes, size: int) -> None:
    """Every valid character stays and every stray byte is one character, in whatever pieces the bytes come."""
    escaped = content.decode("utf-8", "surrogateescape")
    expected = "".join(CP1252[ord(c) - 0xDC00] if "\udc80" <= c <= "\udcff" else c for c in escaped)
    assert content.decode("utf-8", MIXED) == expected
    reader = io.TextIOWrapper(io.BytesIO(content), "utf-8", errors=MIXED, newline="\n")
    assert "".join(iter(lambda: reader.read(size), "")) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["“quoted”", "naïve ", "Ω ", "plain "]), st.booleans()), min_size=40), st.data()
)
def test_mostly_utf8_with_stray_bytes_is_read_without_loss(words: list[tuple[str, bool]], data: st.DataObject) -> None:
    pieces = ["“quoted” naïve ".encode() * 20, *(word.encode() + b"\n" * newline for word, newline in words)]
    stray = data.draw(
        st.lists(st.tuples(st.integers(1, len(pieces) - 1), st.sampled_from(b"\x92\xe9\x85")), max_size=9)
    )
    expected = [piece.decode() for piece in pieces]
    for place, byte in stray:
        pieces[place] += bytes([byte]) + b"."
        expected[place] += CP1252[byte] + "."
    content = b"".join(pieces)
    assert decoded(content) == "".join(expected)
    assert ("stray bytes as cp1252" in (found(content).note or "")) == bool(stray)


def test_an_end_that_is_cut_inside_a_character_is_said_and_the_rest_is_read() -> None:
    content = ("Это текст. " * 20 + "ж").encode()[:-1]
    assert decoded(content) == "Это текст. " * 20 + "\ufffd"
    assert found(content).note == "read as utf-8: its last character is cut short"


# -- through the reader


def rows(path: Path, content: bytes, **config: str) -> list[dict[str, str | None]]:
    path.write_bytes(content)
    source = check_sources([SourceConfig(path=path.name, **config)])[0]  # type: ignore[arg-type]
    return [row for file in list_files(source, path.parent) for row in read_file(file, source)]


def test_a_table_in_cp1252_is_read_and_each_row_says_so(tmp_path: Path) -> None:
    lines = ["question,answer", *(f"Wie groß ist Nummer {i}?,Sie wäre für fünf Brüder zu groß." for i in range(9))]
    content = "\n".join(lines).encode("cp1252")
    read = rows(tmp_path / "x.csv", content)
    assert [row["answer"] for row in read] == ["Sie wäre für fünf Brüder zu groß."] * 9
    assert {(row["note"] or "")[:15] for row in read} == {"read as cp1252,"}
    strict = rows(tmp_path / "x.csv", content, encoding="utf-8")
    assert {row["reason"] for row in strict} == {"encoding"}


def test_records_of_an_undecided_file_are_kept_unless_they_hold_the_bytes(tmp_path: Path) -> None:
    read = rows(tmp_path / "x.csv", b"question,answer\nq1,a1\nq2,one \xff two\nq3,a3\n")
    assert [row["reason"] for row in read] == [None, "encoding", None]
    assert "0xff" in str(read[1]["detail"])
    assert "not decided (cp12" in str(read[1]["detail"])


def test_the_audit_can_ask_for_a_files_encoding(tmp_path: Path) -> None:
    for name, content, expected in (
        ("a.txt", GERMAN.encode(), ("utf-8", 1.0)),
        ("b.txt", RUSSIAN.encode("koi8_r"), ("koi8_r", 0.9)),
        ("c.txt", b"one \xff two", (None, 0.0)),
    ):
        (tmp_path / name).write_bytes(content)
        file = list_files(check_sources([SourceConfig(path=name, kind="text")])[0], tmp_path)[0]
        encoding, confidence = detected(file)
        assert encoding == expected[0]
        assert expected[1] <= confidence <= 1


def test_a_detected_encoding_is_one_that_a_language_is_known_to_use_and_python_knows() -> None:
    for language in LANGUAGES:
        assert len(set(language.letters)) == len(language.letters), language.name
        for encoding in language.encodings:
            kept = sum(letter.encode(encoding, "ignore") != b"" for letter in language.letters)
            assert kept >= 0.6 * len(language.letters), (language.name, encoding)


# -- measured on real files

NAMED = {  # the last part of a file's name -> what Python can mean by it
    "Latin1": ["cp1252", "latin-1"],
    "Latin2": ["iso8859_2", "cp1250"],
    "Cyrillic": ["cp1251", "iso8859_5", "ptcp154"],
    "Greek": ["cp1253", "iso8859_7"],
    "Hebrew": ["cp1255"],
    "Arabic": ["cp1256"],
    "Turkish": ["cp1254"],
    "Baltic": ["iso8859_4", "cp1257"],
    "SJIS": ["cp932", "shift_jis"],
    "EUC": ["euc_jp"],
    "GB2312": ["gb18030"],
    "UTF8": ["utf-8-sig"],
    "Unicode": ["utf-16"],
}
MISNAMED = {"Czech_Cesky-UTF8": "Czech_Cesky-Latin2"}  # equal bytes, and they are not UTF-8


def members(name: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(Path(CORPORA) / "multilingual" / name) as archive:
        for member in archive.namelist():
            if not member.endswith("/"):
                yield member.rpartition("/")[2], archive.read(member)


@needs_corpora
def test_files_in_legacy_encodings_are_right_or_undecided(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    for name, content in members("udhr_legacy_encodings.zip"):
        family = MISNAMED.get(name, name).rpartition("-")[2]
        text = decoded(content)
        if family not in NAMED:  # fonts, and encodings that Python does not know
            counts["undecided, not known to Python" if text is None else "read, not known to Python"] += 1
        elif text is None:
            counts["undecided"] += 1
        else:
            right = [encoding for encoding in NAMED[family] if content.decode(encoding, "replace") == text]
            counts["right" if right else "wrong"] += 1
            assert right, (name, found(content))
    with capsys.disabled():
        print(f"\nudhr_legacy_encodings: {dict(counts)}")
    assert counts["right"] >= 155
    assert counts["undecided, not known to Python"] >= 8


@needs_corpora
def test_utf8_files_stay_untouched_and_are_found_again_in_other_encodings(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for name, content in members("udhr2_most_nonascii.zip"):
        assert decoded(content) == content.decode("utf-8-sig"), name
        text = content.decode("utf-8-sig")[600:8000]
        for encoding in (*sorted({language.encodings[0] for language in LANGUAGES}), "koi8_r", "iso8859_2", "euc_jp"):
            east = encoding in ("gb18030", "cp950", "cp932", "euc_jp", "cp949")  # they hold Greek and Russian too
            try:
                encoded = text.encode(encoding)
            except UnicodeEncodeError:
                continue
            if encoded.isascii() or (east and not any("\u3040" <= c <= "\ud7a3" for c in text)):
                continue
            again = decoded(encoded)
            counts["undecided" if again is None else "right" if again == text else "wrong"] += 1
            wrong += [(name, encoding)] if again not in (None, text) else []
    with capsys.disabled():
        print(f"\nudhr2 in other encodings: {dict(counts)}, wrong: {wrong}")
    assert wrong in ([], [("haw.txt", "cp1257")])  # Hawaiian's macrons there are another's circumflexes in cp1252
    assert counts["right"] >= 80


@needs_corpora
def test_a_real_file_of_utf8_and_cp1252_is_read_without_loss() -> None:
    path = Path(CORPORA) / "human" / "opentriviaqa_raw_people.txt.gz"
    source = check_sources([SourceConfig(path=str(path), kind="text", split="^#Q")])[0]
    file = list_files(source, Path())[0]
    import gzip

    raw = gzip.decompress(path.read_bytes())
    escaped = raw.decode("utf-8", "surrogateescape")
    read = list(read_file(file, source))
    expected = "".join(CP1252[ord(c) - 0xDC00] if "\udc80" <= c <= "\udcff" else c for c in escaped)
    assert "".join(row["text"] for row in read) == expected
    assert len(read) == 2743
    assert sum("\udc80" <= c <= "\udcff" for c in escaped) == 7
    assert detected(file)[0] == "utf-8"
