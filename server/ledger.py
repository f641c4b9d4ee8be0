"""The ledger: keys and every request's usage, in one SQLite file; what the operator can rely on when the power fails.

A request's tokens are charged first and sent to the client then, so at any moment, and after a kill at any moment,

    sent to the client <= charged here <= generated

A row is opened with the first tokens that may be sent, raised with those that follow, and settled in the transaction
that charges the last: then it is "completed", once, however the client hears of it. Others end as "cancelled" (the
client left), "failed", or "interrupted" (the server stopped or was killed): what was charged stays, as it may have been
sent. A row that a kill left open is settled as interrupted at the next start.

WAL, so that reading holds up no writing; synchronous FULL, so that a commit is on disk when it returns: NORMAL would
survive a kill of the process, but a power failure would forget the last commits, whose tokens were sent.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.text import error_line
from server.prices import FREE, Price

if TYPE_CHECKING:  # it brings torch, which keys and usage are told without
    from server.jobs import Update

LEDGER = "runs/serve.sqlite"  # where a server writes if nothing else is said
VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, created REAL NOT NULL, revoked REAL,
    requests_per_minute INTEGER, tokens_per_minute INTEGER, tokens_per_day INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    price INTEGER NOT NULL, cost INTEGER NOT NULL, currency TEXT NOT NULL,
    began REAL NOT NULL, seconds REAL NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS requests_by_key ON requests (key, began);
CREATE INDEX IF NOT EXISTS requests_open ON requests (status) WHERE status = 'open';
"""
CHARGE = """
INSERT INTO requests
VALUES (:id, :key, :model, :status, :prompt, :completion, :price, :cost, :currency, :began, :seconds)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, prompt_tokens = excluded.prompt_tokens,
    completion_tokens = excluded.completion_tokens, price = excluded.price, cost = excluded.cost,
    seconds = excluded.seconds WHERE status = 'open'
"""
Row = Mapping[str, Any]


class Ledger:
    """A connection to the file; used in one thread."""

    def __init__(self, path: Path, prices: Mapping[str, Price] | None = None) -> None:
        """Open or make it, for its owner's eyes alone. UserError for a file that is something else."""
        self.path, self._prices = path, prices or {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A file that is there is left to SQLite: opened and closed by us, it would lose this process' locks on it,
            # and the next command to end would take away the log that the server writes to.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # -wal and -shm take its mode
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA fullfsync = ON")  # on macOS a plain fsync stops at the disk's own memory
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise UserError(
                    f"{path}: is of version {version}, and this loam knows {VERSION}: take another --ledger"
                )
            self._db.executescript(SCHEMA)
            self._db.execute(f"PRAGMA user_version = {VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{path}: cannot be used as the ledger ({error_line(error)})") from None

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, on disk when it ends; sqlite3.Error where it cannot be."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk may have ended it already
                self._db.execute("ROLLBACK")
            raise

    def read(self, query: str, values: Sequence[Any] | Row = ()) -> list[sqlite3.Row]:
        """Rows of a query."""
        return self._db.execute(query, values).fetchall()

    def charge(self, updates: "Sequence[Update]") -> None:
        """Write down what updates hold, in one transaction; sqlite3.Error where that fails, and then nothing of it."""
        rows = {update.job.id: self._row(update) for update in updates if update.job.entered}  # the last of each stands
        if rows:
            with self.transaction() as db:
                db.executemany(CHARGE, rows.values())

    def settle_open(self) -> int:
        """End the rows that a killed server left open; their number."""
        with self.transaction() as db:
            return db.execute("UPDATE requests SET status = 'interrupted' WHERE status = 'open'").rowcount

    def tokens_since(self, key: str, began: float) -> list[tuple[float, int]]:
        """(when it began, tokens charged) of a key's requests."""
        query = (
            "SELECT began, prompt_tokens + completion_tokens FROM requests WHERE key = ? AND began >= ? ORDER BY began"
        )
        return [tuple(row) for row in self.read(query, (key, began))]

    def _row(self, update: "Update") -> dict[str, Any]:
        job, price = update.job, self._prices.get(update.job.model, FREE)
        return {
            "id": job.id,
            "key": job.key,
            "model": job.model,
            "status": update.status or "open",
            "prompt": job.num_prompt_tokens,
            "completion": update.num_tokens,
            "price": price.price(job.num_prompt_tokens, update.num_tokens),
            "cost": price.cost(job.num_prompt_tokens, update.num_tokens),
            "currency": price.currency,
            "began": job.began,
            "seconds": update.time - job.began,
        }


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Hold the ledger as its one server: a second one would settle rows that are still growing."""
    if path.is_dir():
        raise UserError(f"{path}: cannot be used as the ledger: it is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another server writes to it; take another --ledger, or stop that one") from None
        yield
