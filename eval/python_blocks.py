"""Whether an answer is Python where Python was asked for: where its reference is a program, or holds one.

Every answer to such a question counts, so that all checkpoints are judged on the same ones: the share that parses of
its blocks that are marked as Python, or bear no mark and look like it; else of all without a mark; without a fence
whether the answer does. 0 without any code. Nothing is run.
"""

import ast
import re
import textwrap
import warnings

# A fence may be indented; an answer that was cut off may leave its last one open.
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S)
_PYTHON = frozenset(("python", "python3", "py", "py3", "ipython", "pycon"))
_LINE = re.compile(
    r"^\s*(?:(?:def|class) \w+.*:|(?:from [\w.]+ )?import \w|(?:if|elif|while|with|except|for .+ in) ?.*:\s*(?:#.*)?$"
    r"|(?:try|else|finally):|return\b|print\(|[\w.\[\]]+ ?[-+*/|&]?= ?\S.*[()\[\]]|[\w.]+\(.*\)\s*(?:#.*)?$|@\w+|>>> )",
    re.M,
)
_SHELL = re.compile(r"^\s*[%!].*$", re.M)  # of a notebook
_PROGRAM = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.For, ast.While, ast.With)
_WORDS = (
    ast.Module, ast.Expr, ast.AnnAssign, ast.Name, ast.Attribute, ast.Constant, ast.Tuple, ast.BoolOp, ast.BinOp,
    ast.UnaryOp, ast.Compare, ast.boolop, ast.operator, ast.unaryop, ast.cmpop, ast.expr_context,
)  # fmt: skip
_STEP = (ast.Assign, ast.AugAssign, ast.Expr)


def python_parses(answer: str, reference: str) -> float | None:
    """Share of an answer's Python that parses, 0 where it has none; None where the reference has none."""
    if not holds_python(reference):
        return None
    blocks = python_blocks(answer)
    if not blocks:
        fenced = _FENCE.findall(answer)
        rest = [code for mark, code in fenced if not mark] if fenced else [answer]
        blocks = [code for code in rest if not _is_words(code)]
    return sum(map(parses, blocks)) / len(blocks) if blocks else 0.0


def python_blocks(text: str) -> list[str]:
    """The fenced blocks that are Python by their mark or, where they bear none, by their lines."""
    found = _FENCE.findall(text)
    return [code for mark, code in found if mark.lower() in _PYTHON or (not mark and _LINE.search(code))]


def holds_python(text: str) -> bool:
    """Whether a reference is a program, or holds one between fences."""
    if "```" in text:
        return bool(python_blocks(text))
    tree = _tree(text) if _LINE.search(text) else None
    if tree is None:
        return False
    if any(isinstance(node, _PROGRAM) for node in tree.body):
        return True
    # f(x) alone is a formula; two steps, or a print, are a program
    steps = [node for node in tree.body if isinstance(node, _STEP) and isinstance(node.value, ast.Call)]
    return bool(steps) and (len(tree.body) > 1 or text.lstrip().startswith("print("))


def _is_words(text: str) -> bool:
    """Whether valid Python is no code: Paris, not sure, yes or no, Answer: 5."""
    tree = _tree(text)
    return tree is not None and all(isinstance(node, _WORDS) for node in ast.walk(tree))


def parses(code: str) -> bool:
    """Whether a block is Python, or a session at Python's prompt; empty is none."""
    tree = _tree(code)
    return tree is not None and bool(tree.body)


def _tree(code: str) -> ast.Module | None:
    code = textwrap.dedent(code)
    if re.search(r"^>>> ", code, re.M):
        lines = [line[4:] for line in code.split("\n") if line.startswith((">>> ", "... ")) or line in (">>>", "...")]
        code = "\n".join(lines)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a text is worth a warning to its author, not to whoever scores it
            return ast.parse(_SHELL.sub("", code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
