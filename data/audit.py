"""Look at raw data before anything else: what is wrong with it, with evidence, and what survives cleaning.

    python data/audit.py questions.csv books/*.txt        files, columns guessed and said
    python data/audit.py --config my-data.toml            the sources of a configuration
    python data/audit.py new.csv --against old.csv        two versions of a corpus

Writes audit.json and audit.html to --out (default: the working folder; with --config or --run, runs/<run>/).
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room

    from common.errors import leave_when_interrupted

    leave_when_interrupted()

from common.errors import UserError, run_command
from common.files import write_json
from common.runs import run_folder
from config import Config, load_command
from data.auditing import AuditConfig, audit
from data.config import Engine
from data.guess import guessed_sources
from data.report.comparison import compare_lines, write_comparison
from data.report.summary import terminal_summary, write_page
from data.report.view import settings_view
from data.sources import SourceConfig

SEQ_LEN = 512


@dataclass
class Options:
    """The flags of this command.

    Args:
        against: another version of the corpus: a file, or several with commas between them
        json: file for the findings (default: audit.json in --out)
        out: folder for the report
        seq_len: context that lengths are compared with, in tokens (default: the configuration's, else 512)
        engine: native (this machine) or ray (a cluster)
        tokenizer: a tokenizer.json that counts tokens (default: the run's, where --run or --config names one)
        questions: files with commas between them whose questions are looked for in all rows, as evaluations are
    """

    against: str | None = None
    json: str | None = None
    out: str | None = None
    seq_len: int | None = None
    engine: Engine = "native"
    tokenizer: str | None = None
    questions: str | None = None


def main() -> None:
    """The command line."""
    settings = load_command(None, __doc__, positional={"files": "*"}, options=Options)
    options: Options = settings.args.options
    seq_len = options.seq_len if options.seq_len is not None else settings.model.seq_len or SEQ_LEN
    if seq_len < 1:
        raise UserError(f"--seq_len is a number of tokens, 1 or more, not {seq_len}")
    config = AuditConfig(
        seq_len,
        settings.prepare.min_bytes,
        settings.prepare.keep,
        options.engine,
        _tokenizer(settings, options),
        _listed(options.questions),
    )
    sources, base = _sources(settings)
    other, lines = guessed_sources(_listed(options.against))
    print("".join(f"{line}\n" for line in lines), end="")
    report, page = _places(settings, options)
    found = audit(sources, config, base)
    write_json(report, found)
    if other:
        before = audit(other, config)
        _readable(before, options.against)
        print("\n".join(compare_lines(found, before)))
        write_comparison(found, before, page)
    else:
        print("\n".join(terminal_summary(found)))
        print("\ncleaning that acts on this, for the TOML file:")
        for section, lines in settings_view(found["recommended"]).items():
            print("\n".join([f"[{section}]", *lines]))
        write_page(found, page)
    print(f"json: {report}\npage: {page}")
    print(f"next: python data/prepare.py {_named(settings)}")


def _readable(found: dict[str, Any], named: str | None) -> None:
    """Raise UserError where no row of another version was read: "better" would be said of nothing."""
    unread = [finding for finding in found["findings"] if finding["kind"] in ("unreadable", "encoding")]
    if unread and sum(finding["count"] for finding in unread) == found["rows"]:
        raise UserError(f"--against {named}: no row of it can be read: {unread[0]['examples'][0]['detail']}")


def _sources(settings: Config) -> tuple[list[SourceConfig], Path]:
    if not settings.args.files:
        if not settings.source:
            print("no file and no [[source]] is named: taking the embedded corpus, this Python's own documentation")
        return settings.source, settings.base
    if settings.args.config:
        raise UserError("name files or --config, not both")
    sources, lines = guessed_sources(settings.args.files)
    print("\n".join(lines))
    return sources, Path(".")


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []


def _tokenizer(settings: Config, options: Options) -> str | None:
    if options.tokenizer:
        if not Path(options.tokenizer).is_file():
            raise UserError(f"--tokenizer {options.tokenizer}: no such file; it is a tokenizer.json")
        from tokenizers import Tokenizer

        try:
            Tokenizer.from_file(options.tokenizer)
        except Exception as error:  # tokenizers raises no other
            raise UserError(f"--tokenizer {options.tokenizer}: no tokenizer.json ({error})") from None
        return options.tokenizer
    own = run_folder(settings.run) / "tokenizer" / "tokenizer.json"
    return str(own) if settings.args.run and own.exists() else None


def _places(settings: Config, options: Options) -> tuple[Path, Path]:
    """Where the findings and the page will be; their folders are made before any work. Raises UserError."""
    folder = Path(options.out) if options.out else run_folder(settings.run) if settings.args.run else Path(".")
    report = Path(options.json) if options.json else folder / "audit.json"
    for made, flag in ((folder, f"--out {options.out}"), (report.parent, f"--json {options.json}")):
        try:
            made.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{flag}: {error.filename} cannot be made a folder ({error.strerror})") from None
        if not os.access(made, os.W_OK | os.X_OK):
            raise UserError(f"{made}: nothing can be written there; name another place with --out and --json")
    if report.is_dir():
        raise UserError(f"--json {report}: a folder; name a file")
    return report, folder / "audit.html"


def _named(settings: Config) -> str:
    if settings.args.config:
        return f"--config {settings.args.config}"
    return "--config my-data.toml  (configs/own-data.toml shows what stands in it)" if settings.args.files else ""


if __name__ == "__main__":
    run_command(main)
