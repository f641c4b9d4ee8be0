"""One configuration for all commands: a TOML file, overridden by flags, checked by type, as dataclasses.

In: `--config FILE.toml` (or, without one, the run's own config.toml where the run exists), and flags: the command's own
section flat (`--epochs 10`), the other sections dotted (`--model.preset tiny`), dashes and underscores alike.
Out: a `Config`. Each section's dataclass lives beside the code that it configures; this file only joins them.
Unknown sections, unknown keys and wrong types are one line that names the file or the flag.
"""

import re
import sys
import typing
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common.errors import UserError, speaks
from common.runs import claim, claimed, frozen_sections, read_config, relative_source, run_folder
from data.config import PrepareConfig
from data.sources import SourceConfig
from eval.config import EvalConfig
from model.config import ModelConfig
from tokenizer.config import TokenizerConfig
from training.config import TrainConfig

SIZES = [name for name, hint in typing.get_type_hints(ModelConfig).items() if hint == int | None]
SECTIONS: dict[str, type] = {
    "prepare": PrepareConfig,
    "tokenizer": TokenizerConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
}


@dataclass
class Config:
    """The resolved configuration of one command of one run."""

    run: str = "default"
    base: Path = Path(".")  # relative paths of sources start here: the folder of the TOML file
    source: list[SourceConfig] = field(default_factory=list)  # none: the embedded corpus
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    args: SimpleNamespace = field(default_factory=SimpleNamespace)  # positional arguments and a command's own flags

    def claimed(self, stage: str, write: bool = True, accepted: Collection[str] = ()) -> AbstractContextManager[Path]:
        """Hold runs/<run>/ for a stage and write config.toml, or refuse; see `common.runs.claimed`."""
        return claimed(self.run, self._recorded(), stage, write, accepted)

    def check(self, accepted: Collection[str] = ()) -> None:
        """Refuse what `claimed("train")` would refuse, before work is done for it."""
        claim(self.run, self._recorded(), write=False, accepted=accepted)

    def _recorded(self) -> dict[str, Any]:
        """The sections as config.toml holds them."""
        folder = run_folder(self.run)
        sources = [replace(source, path=relative_source(source.path, self.base, folder)) for source in self.source]
        return {"source": sources, **{name: getattr(self, name) for name in SECTIONS}}


def load_command(
    section: str | None,
    description: str | None = None,
    positional: dict[str, str] | None = None,
    flags: dict[str, tuple[Any, str]] | None = None,
    options: type | None = None,
    argv: list[str] | None = None,
) -> Config:
    """Parse a command line.

    `section` is the command's own, flat on its command line; None: no section's keys are flags, and the file's values
    stand. `positional` maps a name to its nargs ("+", "1" for one). `flags` maps a name to (default, help): False makes
    a switch, True a truth value, None a text.
    `options` is a dataclass of flags that no file holds. They land in `Config.args` (`args.options`), as does `run`,
    None where none was named.
    Raises UserError for anything a user can get wrong; `--help` prints and exits.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    argv = [_underscored(word) for word in (sys.argv[1:] if argv is None else argv)]
    flags = {
        "config": (None, "TOML file for all commands of a run"),
        "run": (None, _CKPT_HELP if positional else _RUN_HELP),
        **(flags or {}),
    }
    parser = ArgumentParser(
        prog=_program(),
        description=(description or "").strip(),
        exit_on_error=False,
        add_help=True,
        allow_abbrev=False,
    )
    for name, nargs in (positional or {}).items():
        parser.add_argument(name, nargs=None if nargs == "1" else nargs)
    for name, (default, text) in flags.items():
        of_type = {"type": bool if default is True else str | None, "default": default}
        kind: dict[str, Any] = {"action": "store_true"} if default is False else of_type
        parser.add_argument(f"--{name}", help=text, **kind)
    sections = SECTIONS if section is not None else {}
    for name, cls in sections.items():
        # In a group of ours: one of jsonargparse's would come with a flag --model FILE, for a file that is no TOML.
        group = parser.add_argument_group((cls.__doc__ or "").partition("\n")[0].rstrip("."))
        group.add_class_arguments(cls, None if name == section else name, as_group=False)
    if options is not None:
        parser.add_class_arguments(options)

    # The file's values become the parser's defaults, so they are needed before the flags are read.
    file, run = _early(argv, "config"), _early(argv, "run")
    recorded = run_folder("default" if run is None else run) / "config.toml"
    if file is None and recorded.exists():
        file = str(recorded)
    config = Config(run="default" if run is None else run)
    if file is not None:
        path = Path(file)
        values = read_config(path)
        run_of_file = path.parent.name if path.name == "config.toml" else path.stem
        config = Config(run=run_of_file if run is None else run, base=path.parent)
        # A flag given to an earlier command (--vocab_size 512) need not be repeated for a later one.
        defaults = {k: v for k, v in frozen_sections(config.run).items() if k in SECTIONS and k != section}
        for name, checked in _checked_sections(path, values, config).items():
            defaults[name] = {**defaults.get(name, {}), **checked}
        for name, own in defaults.items():
            if not sections:  # no flags: the file's word is the last
                setattr(config, name, SECTIONS[name](**own))
                continue
            prefix = "" if name == section else f"{name}."
            parser.set_defaults({prefix + key: value for key, value in own.items()})
    try:
        parsed = parser.parse_args(argv)
    except ArgumentError as error:
        raise UserError(f"{_one_line(str(error), '--', options)} (see --help)") from None
    if file is not None and "model" in sections and speaks():
        _say_what_stands_above_the_preset(file, defaults.get("model", {}), argv)
    for name, cls in sections.items():
        found = parsed if name == section else parsed[name]
        setattr(config, name, cls(**{f.name: found[f.name] for f in fields(cls)}))
    config.args = SimpleNamespace(**{name: parsed[name] for name in [*(positional or {}), *flags]})
    config.args.run = config.run if run is not None or config.args.config is not None else None
    if options is not None:
        config.args.options = options(**{f.name: parsed[f.name] for f in fields(options)})
    run_folder(config.run)  # a bad name is refused before work starts
    return config


_CKPT_HELP = "folder under runs/ that holds the checkpoints (default: the newest run)"
_RUN_HELP = "folder under runs/ (default: the configuration file's name, else 'default'); behind torchrun: --run-name"


def _say_what_stands_above_the_preset(file: str, model: dict[str, Any], argv: list[str]) -> None:
    """Single sizes of a file go before its preset, and before a flag's: whoever gives the flag is told."""
    preset = _early(argv, "model.preset")
    above = [
        f"{key} = {value}" for key, value in model.items() if key in SIZES and _early(argv, f"model.{key}") is None
    ]
    if preset is not None and above:
        print(f"note: --model.preset {preset}, but {file} has {', '.join(above)} in [model], which go before a preset")


def _checked_sections(path: Path, values: dict[str, Any], config: Config) -> dict[str, dict[str, Any]]:
    """Check every section of a TOML file against its dataclass; fills `config.source`, returns the others' values."""
    sections: dict[str, dict[str, Any]] = {}
    for name, content in values.items():
        if name == "source":
            if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
                raise UserError(f"{path}: sources are written [[source]], with two brackets")
            for i, item in enumerate(content):
                if not item.get("path"):
                    raise UserError(f'{path}: [[source]] number {i + 1}: path is missing, as in path = "faq/*.csv"')
            config.source = [
                SourceConfig(**_checked(path, f"[[source]] number {i + 1}", SourceConfig, item))
                for i, item in enumerate(content)
            ]
        elif name not in SECTIONS:
            known = ", ".join(["[[source]]", *(f"[{known}]" for known in SECTIONS)])
            raise UserError(f"{path}: unknown section or key '{name}' (known sections: {known})")
        elif not isinstance(content, dict):
            raise UserError(f"{path}: '{name}' is a section and is written [{name}]")
        else:
            sections[name] = _checked(path, f"[{name}]", SECTIONS[name], content)
    return sections


def _checked(path: Path, where: str, cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Values of one section, converted to the dataclass's types."""
    from jsonargparse import ArgumentError, ArgumentParser

    known = [f.name for f in fields(cls)]
    for key in values:
        if key not in known:
            raise UserError(f"{path}: {where} unknown key '{key}' (known: {', '.join(known)})")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls)
    types = typing.get_type_hints(cls)
    try:
        parsed = parser.parse_object(values)
    except ArgumentError as error:
        raise UserError(f"{path}: {where} {_one_line(str(error), '', SourceConfig)}") from None
    for (
        key,
        value,
    ) in values.items():  # text is not a number, and true is not 1, though the parser would convert them
        wrong_text = isinstance(value, str) and not isinstance(parsed[key], str | Path)
        if wrong_text or (isinstance(value, bool) != isinstance(parsed[key], bool)):
            raise UserError(f"{path}: {where} {key}: expected {_type_name(types[key])}, got {value!r}")
    return {key: parsed[key] for key in values}


def _one_line(message: str, dash: str, options: type | None) -> str:
    """jsonargparse's message (several lines, Python type names) as one line for a user."""
    key = re.search(r'[Kk]ey "?([\w.]+)"?', message)
    got = re.search(r"(?:Got|Given) value: (.*)", message)
    section, _, name = key.group(1).rpartition(".") if key else ("", "", "")
    cls = [c for s, c in SECTIONS.items() if section in ("", s) and name in typing.get_type_hints(c)]
    if options is not None and name in typing.get_type_hints(options):
        cls = [options]
    if key and got and cls:
        return f"{dash}{key.group(1)}: expected {_type_name(typing.get_type_hints(cls[0])[name])}, got {got.group(1)!r}"
    return " ".join(message.split())


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(hint))
    if typing.get_args(hint):
        names = [_type_name(part) for part in typing.get_args(hint) if part is not type(None)]
        return f"list of {names[0]}" if typing.get_origin(hint) is list else " or ".join(names)
    return {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}.get(
        getattr(hint, "__name__", ""), str(hint)
    )


def _underscored(word: str) -> str:
    """--seq-len=5 -> --seq_len=5: dashes and underscores are the same in flags; --run-name is --run."""
    if not re.match(r"--[A-Za-z]", word):
        return word
    name, equals, value = word.partition("=")
    name = name[2:].replace("-", "_")
    # Before Python 3.12 torchrun refuses `torchrun train.py --run x`: it reads --run as short for its own --run-path.
    return "--" + ("run" if name == "run_name" else name) + equals + value


def _early(argv: list[str], name: str) -> str | None:
    """The value of --name before the real parse; None where it is not given."""
    for i, word in enumerate(argv):
        if word == f"--{name}" and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def _program() -> str:
    path = Path(sys.argv[0])
    return (
        f"{path.parent.name}/{path.name}" if path.parent.name in ("data", "tokenizer", "eval", "server") else path.name
    )
