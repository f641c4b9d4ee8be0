"""Text for a terminal."""


def one_line(text: str, length: int) -> str:
    """At most `length` printable characters on one line: what a corpus holds must not steer the terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 3] + "..."


def error_line(error: BaseException, length: int = 300) -> str:
    """What an exception says, on one line; its name where it says nothing."""
    return one_line(str(error), length) or type(error).__name__
