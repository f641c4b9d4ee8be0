"""Text for a terminal."""


def one_line(text: str, length: int) -> str:
    """At most `length` printable characters on one line: what a corpus holds must not steer the terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 3] + "..."
