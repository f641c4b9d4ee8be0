"""What the weights of a checkpoint are, one `Line` a check: tensors, weights, size.

In: a folder that soundness.py has opened. Out: lines, and the headers of its safetensors files (`Stored`), which say
names, shapes and dtypes without a number being read; numbers are read a tensor at a time. Pickled weights stay closed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from common.errors import UserError
from eval.soundness import ANOTHER, FAIL, PASS, SKIP, WARN, Folder, Line, advice, brief, size_of, some
from model.config import Shape, layer_parameters, outer_parameters
from model.huggingface import DTYPES, load_shape


@dataclass
class Stored:
    """The headers of the weights."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]  # safetensors' names
    file_of: dict[str, Path]

    @property
    def num_numbers(self) -> int:
        return sum(prod(shape) for shape in self.shapes.values())


def read_headers(folder: Folder) -> tuple[Stored | None, Line | None]:
    """Names, shapes and dtypes of all tensors, no numbers; or the line that says why not."""
    stored = Stored({}, {}, {})
    for file in folder.weight_files():
        if not file.is_file():
            return None, Line(SKIP, "tensors", f"{file.name} is missing")
        try:
            with safe_open(file, framework="pt") as header:
                for name in header.keys():  # noqa: SIM118
                    each = header.get_slice(name)
                    stored.shapes[name], stored.dtypes[name] = tuple(each.get_shape()), each.get_dtype()
                    stored.file_of[name] = file
        except (OSError, SafetensorError) as error:
            return None, Line(FAIL, "tensors", f"{file.name} is damaged: {brief(error, folder.path)}", ANOTHER)
    if not stored.shapes:
        return None, Line(FAIL, "tensors", "the weights hold no tensors", ANOTHER)
    return stored, None


def check_own_tensors(folder: Folder, stored: Stored) -> tuple[Line, Shape | None]:
    """Every tensor that config.json asks for, in its size, and no other; the shape where that is so."""
    if folder.lacks("config.json"):
        return Line(SKIP, "tensors", "config.json, which names them, cannot be read"), None
    try:
        shape = load_shape(folder.path)
    except UserError as error:
        return Line(FAIL, "tensors", *advice(brief(error, folder.path))), None
    outer, inner = outer_parameters(shape), layer_parameters(shape)
    number = len(outer) + shape.num_layers * len(inner)
    if number > 100 * len(stored.shapes):  # an absurd number of layers is not written out
        found = f"config.json asks for {number:,} tensors, the weights hold {len(stored.shapes):,}"
        return Line(FAIL, "tensors", found, ANOTHER), None
    expected = {name if name.startswith("lm_head.") else f"model.{name}": size for name, size in outer.items()}
    for layer in range(shape.num_layers):
        expected |= {f"model.layers.{layer}.{name}": size for name, size in inner.items()}
    line = compare_tensors(
        [name for name in expected if name not in stored.shapes],
        [name for name in stored.shapes if name not in expected],
        [(name, stored.shapes[name], size) for name, size in expected.items() if stored.shapes.get(name, size) != size],
        len(stored.shapes),
    )
    other = sorted({dtype for dtype in stored.dtypes.values() if dtype not in DTYPES})
    if line.status == PASS and other:
        return Line(FAIL, "tensors", f"stored as {some(other)}, which hold no weights of this model", ANOTHER), None
    return line, shape if line.status == PASS else None


def compare_tensors(
    missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[tuple[str, Any, Any]], number: int
) -> Line:
    """The line about tensors other than config.json asks for. misshapen: name, size found, size expected."""
    figures = {"number": number, "missing": [*missing], "unexpected": [*unexpected],
               "misshapen": [name for name, _, _ in misshapen]}  # fmt: skip
    wrong = []
    if misshapen:
        name, found, expected = misshapen[0]
        more = f" (and {len(misshapen) - 1} more)" if len(misshapen) > 1 else ""
        wrong.append(f"{name} is {tuple(found)} where config.json asks for {tuple(expected)}{more}")
    if missing:
        wrong.append(f"{some(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if unexpected:
        wrong.append(f"{some(unexpected)} {'is' if len(unexpected) == 1 else 'are'} not asked for")
    if wrong:
        return Line(FAIL, "tensors", "; ".join(wrong), ANOTHER, figures)
    return Line(PASS, "tensors", f"{number:,} tensors, each in the size that config.json asks for", figures=figures)


def check_weights(stored: Stored) -> Line:
    """No NaN, no infinity, no matrix of equal numbers."""
    broken: dict[str, str] = {}
    flat: list[str] = []
    vectors: list[bool] = []
    for file in sorted(set(stored.file_of.values())):
        with safe_open(file, framework="pt") as weights:
            for name in sorted(name for name, its in stored.file_of.items() if its == file):
                tensor = weights.get_tensor(name)
                if not tensor.is_floating_point() or tensor.numel() == 0:
                    continue
                tensor = tensor.float() if tensor.element_size() == 1 else tensor
                low, high = (float(value) for value in torch.aminmax(tensor))
                if not (abs(low) < torch.inf and abs(high) < torch.inf):  # NaN is neither
                    nans = int(tensor.isnan().sum())
                    kind = f"{nans:,} NaN" if nans else f"{int(tensor.isinf().sum()):,} infinite"
                    broken[name] = f"{name} holds {kind} of {tensor.numel():,} numbers"
                elif tensor.dim() > 1 and tensor.numel() > 1 and low == high:
                    flat.append(f"{name} is {low:g} everywhere")
                elif tensor.dim() == 1 and tensor.numel() > 1:
                    vectors.append(low == high)
    figures = {"non_finite": list(broken), "constant": flat, "numbers": stored.num_numbers}
    if broken:
        more = f" (and {len(broken) - 1} more tensors)" if len(broken) > 1 else ""
        return Line(FAIL, "weights", next(iter(broken.values())) + more, "training has diverged: " + ANOTHER, figures)
    if flat:
        return Line(FAIL, "weights", some(flat), "nothing was learned or stored there: " + ANOTHER, figures)
    if vectors and all(vectors):
        found = f"{stored.num_numbers:,} numbers, all finite; each norm and bias is one number over and over"
        todo = "make sure that this model was trained: so it is before the first step"
        return Line(WARN, "weights", found, todo, figures)
    return Line(PASS, "weights", f"{stored.num_numbers:,} numbers, all finite; no tensor is constant", figures=figures)


def check_size(folder: Folder, stored: Stored, seq_len: int | None) -> Line:
    """Parameters, how they are stored, bytes on disk, context."""
    num_bytes = size_of(Path(place) / name for place, _, names in os.walk(folder.path) for name in names)
    numbers: dict[str, int] = {}
    for name, dtype in stored.dtypes.items():
        numbers[dtype] = numbers.get(dtype, 0) + prod(stored.shapes[name])
    main = max(numbers, key=lambda dtype: numbers[dtype])
    figures = {"parameters": stored.num_numbers, "dtypes": numbers, "bytes": num_bytes, "seq_len": seq_len}
    found = f"{stored.num_numbers:,} parameters as {main}, {num_bytes:,} bytes on disk"
    found += f", context {seq_len:,} tokens" if seq_len else ", no context length stated"
    said = folder.config.get("dtype") or folder.config.get("torch_dtype")
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    if said and main in names and said != names[main]:
        return Line(WARN, "size", f"{found}; config.json says {said}", "correct its dtype: engines believe it", figures)
    return Line(PASS, "size", found, figures=figures)
