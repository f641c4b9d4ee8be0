"""The embedded corpus: documentation of the running Python's own standard library, as questions and as prose.

    docstrings  one row a public module's function, class or method: "What does `json.dumps` do?", answered with the
                signature (where there is one) and the docstring; category = top-level package; difficulty = by the
                docstring's length: under 200 bytes easy, under 800 medium, else hard
    prose       the language reference that `help()` shows (pydoc_data.topics), one document a topic, and each public
                module's own docstring

Sources are parsed (ast), not imported: no import side effects, nothing that depends on the environment or a display.
Only modules written in C are imported, for they have no source; where one cannot be, or a signature would show an
object's address, it is left out. So one interpreter gives the same rows in the same order in every process.
"""

import ast
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Collection, Iterator
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from common.errors import UserError

# Not documentation of a library: tests, demonstrations, vendored packages, programs that act when imported.
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "antigravity", "this", "pydoc_data", "ensurepip"}
SKIPPED |= {"readline"}  # importing it touches the terminal
# Public names for what is written under a platform's name.
ALIASES = {"posixpath": "os.path", "posix": "os"} if sys.platform != "win32" else {"ntpath": "os.path", "nt": "os"}

_C_SUFFIXES = tuple(EXTENSION_SUFFIXES)
Entry = tuple[str, str, str | None, str]


def records(part: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Rows of `docstrings` or `prose`, each with its place: ":json.dumps"."""
    if part == "docstrings":
        yield from _docstrings()
    elif part == "prose":
        yield from _prose()
    else:
        raise UserError(f"no embedded corpus {part!r}; there are: docstrings, prose")


def difficulty(docstring: str) -> str:
    """Longer explanations are of harder things."""
    size = len(docstring.encode())
    return "easy" if size < 200 else "medium" if size < 800 else "hard"


def _docstrings() -> Iterator[tuple[str, dict[str, str | None]]]:
    seen: set[str] = set()
    for module, name, signature, docstring in _documented():
        full = f"{module}.{name}" if module != "builtins" else name
        if full in seen or not name:
            continue
        seen.add(full)
        answer = f"`{full}{signature}`\n\n{docstring}" if signature else docstring
        row = {"question": f"What does `{full}` do?", "answer": answer, "category": module.partition(".")[0]}
        yield f":{full}", {**row, "difficulty": difficulty(docstring)}


def _prose() -> Iterator[tuple[str, dict[str, str | None]]]:
    topics = Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py"
    if topics.exists():
        tree = ast.parse(topics.read_bytes())
        values = [node.value for node in tree.body if isinstance(node, ast.Assign)]
        for topic, text in sorted(ast.literal_eval(values[0]).items()):
            yield f":topics.{topic}", {"text": text}
    seen: set[str] = set()
    for module, name, _, docstring in _documented():
        if not name and module not in seen:
            seen.add(module)
            yield f":{module}", {"text": docstring}


@cache
def _documented() -> list[Entry]:
    """(module, qualified name, signature or None, docstring); an empty name is the module itself."""
    found: list[Entry] = []
    files = _public_files(Path(sysconfig.get_path("stdlib")))
    for module in sorted(files):
        found += _from_source(ALIASES.get(module, module), files[module])
    # C modules last, the private ones (_decimal, _io) under the name of the public module that they serve.
    for module in sorted(sys.stdlib_module_names - files.keys(), key=lambda name: (name[0] == "_", name)):
        if module in sys.builtin_module_names or ((spec := _find(module)) and spec.endswith(_C_SUFFIXES)):
            found += _from_import(module, public=module.lstrip("_"), known=files.keys())
    return found


def _public_files(root: Path) -> dict[str, Path]:
    """Module name -> source file, of modules whose every part is public."""
    files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if _is_public(name)]  # site-packages is no identifier
        for name in names:
            if not name.endswith(".py") or not (_is_public(name[:-3]) or name == "__init__.py"):
                continue
            parts = (Path(folder) / name[:-3]).relative_to(root).parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if parts and parts[0] in sys.stdlib_module_names:  # not a distribution's sitecustomize
                files[".".join(parts)] = Path(folder) / name
    return files


def _is_public(part: str) -> bool:
    return part.isidentifier() and not part.startswith("_") and part not in SKIPPED


def _find(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    return spec.origin if spec else None


# -- modules with source


def _from_source(module: str, path: Path) -> Iterator[Entry]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    yield from _from_node(module, "", tree)


def _from_node(module: str, name: str, node: Any) -> Iterator[Entry]:
    docstring = ast.get_docstring(node)
    if docstring and docstring.strip() and _is_text(docstring):
        yield module, name, _signature(node, "." in name), docstring
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
            yield from _from_node(module, f"{name}.{child.name}".lstrip("."), child)


def _signature(node: Any, is_method: bool) -> str | None:
    """A function's parameters, or those of a class's __init__, without self."""
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return _signature(inits[0], True) if inits else None
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    arguments, static = node.args, any(getattr(d, "id", "") == "staticmethod" for d in node.decorator_list)
    if any(getattr(d, "id", getattr(d, "attr", "")) in ("property", "cached_property") for d in node.decorator_list):
        return None
    if is_method and not static:
        for positional in (arguments.posonlyargs, arguments.args):
            if positional:
                positional.pop(0)
                break
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


# -- modules written in C


def _from_import(module: str, public: str, known: Collection[str]) -> Iterator[Entry]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = importlib.import_module(module)
        except Exception:  # another platform's module, or one that this build lacks
            return
    if module == public:
        yield from _from_object(public, "", loaded)
    for name in sorted(vars(loaded)):
        value = vars(loaded)[name]
        if name[0] == "_" or inspect.isfunction(value) or not (inspect.isroutine(value) or inspect.isclass(value)):
            continue
        if module == "sys" and name.endswith("hook"):  # programs put their own there
            continue
        own = getattr(value, "__module__", None) or ""  # what _decimal holds says of itself that it is decimal's
        home = own if own in known else public
        if module != home and home not in known:
            continue
        home = ALIASES.get(home, home)
        yield from _from_object(home, name, value)
        if inspect.isclass(value):
            for method in sorted(vars(value)):
                member = vars(value)[method]
                if method[0] != "_" and (inspect.isroutine(member) or inspect.isdatadescriptor(member)):
                    yield from _from_object(home, f"{name}.{method}", member)


def _from_object(module: str, name: str, value: Any) -> Iterator[Entry]:
    docstring = getattr(value, "__doc__", None)
    if not isinstance(docstring, str) or not docstring.strip() or not _is_text(docstring):
        return
    # Not inspect.signature: it evaluates defaults with whatever modules this process happens to have imported.
    signature = getattr(value, "__text_signature__", None) if name else None
    if not isinstance(signature, str) or " at 0x" in signature:
        signature = None
    else:
        signature = re.sub(r"\(\$?(self|module|cls|type)(, /)?(, )?", "(", signature.replace("$self", "self"))
    yield module, name, signature, inspect.cleandoc(docstring)


def _is_text(docstring: str) -> bool:
    """False for an object's address (other in each process) and for half a surrogate pair (no UTF-8)."""
    return " at 0x" not in docstring and not any("\ud800" <= character <= "\udfff" for character in docstring)
