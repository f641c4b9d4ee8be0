"""Text for a terminal."""


def one_line(text: str, length: int) -> str:
    """At most `length` printable characters on one line: what a corpus holds must not steer the terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 3] + "..."


def error_line(error: BaseException, length: int = 300) -> str:
    """What an exception says, on one line; its name where it says nothing."""
    return one_line(str(error), length) or type(error).__name__


def not_unicode(text: str) -> str | None:
    """The first character that no UTF-8 can hold, and where it stands; None where there is none.

    Bytes that are no UTF-8 come from a command line or a pipe as lone surrogates of their own (surrogateescape).
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = f"the byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"the lone surrogate U+{code:04X}"
        return f"{what} stands at character {error.start + 1:,}"
    return None
