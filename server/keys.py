"""API keys: `python server/keys.py create NAME`, `list`, `revoke NAME`; they lie beside the ledger, hashed.

A key is "loam-" and 256 random bits. Its SHA-256 is enough to keep: slow hashes protect passwords, which people choose
and others guess; nobody guesses 256 bits, and a slow hash would only slow down every request. A key is shown once.
A name is used once: what the ledger says of it stays said of one key.

What is made or revoked counts at once, in a running server too.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # imports start at the repository, not at this room
    from common.errors import leave_when_interrupted

    leave_when_interrupted()

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from common.errors import UserError, run_command
from config import load_command
from server.ledger import LEDGER, Ledger


@dataclass
class KeyOptions:
    """A key's limits, and where keys lie.

    Args:
        requests_per_minute: most requests of the key in any minute; none: no limit
        tokens_per_minute: most tokens, of prompts and answers, in any minute
        tokens_per_day: most tokens in a day of UTC
        ledger: the file
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    ledger: str = LEDGER

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "tokens_per_day"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**63:
                raise UserError(f"--{name} {value}: must be 1 or more")


@dataclass(frozen=True)
class Key:
    """A key that may be used, and its limits."""

    name: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


def create_key(ledger: Ledger, name: str, options: KeyOptions) -> str:
    """A new key, which only its owner knows from then on. UserError for a name that is or was taken."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", name):
        raise UserError(f"{name!r}: a key's name is up to 64 letters, digits, '.', '_', '@', '+', '-'")
    key = f"loam-{secrets.token_urlsafe(32)}"
    limits = (options.requests_per_minute, options.tokens_per_minute, options.tokens_per_day)
    with ledger.transaction() as db:
        if db.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
            raise UserError(f"{name}: there is or was such a key; take another name")
        db.execute("INSERT INTO keys VALUES (?, ?, ?, NULL, ?, ?, ?)", (name, _hash(key), time.time(), *limits))
    return key


def revoke_key(ledger: Ledger, name: str) -> None:
    """From now on it opens nothing. UserError where there is none."""
    with ledger.transaction() as db:
        found = db.execute("UPDATE keys SET revoked = ? WHERE name = ? AND revoked IS NULL", (time.time(), name))
        if not found.rowcount:
            raise UserError(f"{name}: there is no such key, or it is revoked; `python server/keys.py list` shows all")


def find_key(ledger: Ledger, key: str) -> Key | None:
    """The key as it was given by a client; None for one that opens nothing."""
    query = "SELECT name, requests_per_minute, tokens_per_minute, tokens_per_day FROM keys"
    found = ledger.read(f"{query} WHERE hash = ? AND revoked IS NULL", (_hash(key),))
    return Key(*found[0]) if found else None


def any_keys(ledger: Ledger) -> bool:
    """Whether a key was ever made: then one is needed, were all of them revoked."""
    return bool(ledger.read("SELECT 1 FROM keys LIMIT 1"))


def list_keys(ledger: Ledger) -> list[str]:
    """A line a key: name, since when, limits, what it used."""
    query = """SELECT keys.*, count(id) AS number, coalesce(sum(prompt_tokens + completion_tokens), 0) AS tokens
               FROM keys LEFT JOIN requests ON requests.key = keys.name GROUP BY keys.name ORDER BY keys.created"""
    lines = []
    for row in ledger.read(query):
        limits = [f"{row[name]:,} {name.replace('_', ' ')}" for name in
                  ("requests_per_minute", "tokens_per_minute", "tokens_per_day") if row[name] is not None]  # fmt: skip
        since = (
            "revoked" if row["revoked"] is not None else f"since {datetime.fromtimestamp(row['created'], UTC):%Y-%m-%d}"
        )
        used = f"{row['number']:,} requests, {row['tokens']:,} tokens"
        lines.append(f"{row['name']}  {since}  {', '.join(limits) or 'no limits'}  {used}")
    return lines


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def main() -> None:
    """The command."""
    args = load_command(None, description=__doc__, positional={"action": "+"}, options=KeyOptions).args
    options: KeyOptions = args.options
    action, names = args.action[0], args.action[1:]
    if action not in ("create", "list", "revoke"):
        raise UserError(f"{action}: expected create, list or revoke")
    if len(names) != (0 if action == "list" else 1):
        raise UserError(
            f"{action}: expected {'no name' if action == 'list' else 'one name, as in: ' + action + ' alice'}"
        )
    if action != "create" and not Path(options.ledger).is_file():
        raise UserError(f"{options.ledger}: no such file, so there are no keys; --ledger names another")
    ledger = Ledger(Path(options.ledger))
    if action == "create":
        print(create_key(ledger, names[0], options))
        print("this is the only time that it is shown; clients send it as: Authorization: Bearer KEY", file=sys.stderr)
        print("next: python serve.py CKPT", file=sys.stderr)
    elif action == "revoke":
        revoke_key(ledger, names[0])
        print(f"{names[0]} opens nothing any more")
    else:
        print(*(list_keys(ledger) or ["no keys; make one: python server/keys.py create NAME"]), sep="\n")
    ledger.close()


if __name__ == "__main__":
    run_command(main)
