"""Text for a terminal: what an exception says."""

import pytest

from common.text import error_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssertionError(), "AssertionError"),
        (ValueError("\n \n"), "ValueError"),
        (ValueError("first\nsecond\x1b[31m"), "first second [31m"),
        (ValueError("x" * 400), "x" * 297 + "..."),
    ],
)
def test_an_exception_is_one_line_and_never_empty(error: Exception, said: str) -> None:
    assert error_line(error) == said
