"""The application: a ledger in SQLite whose accounts always sum to the same amount, and that never rests."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.demo.errors import DemoError

ACCOUNTS = 500
START_BALANCE = 1_000
TOTAL = ACCOUNTS * START_BALANCE

_LOCK_TIMEOUT_S = 30
_PAUSE_S = 0.001  # between two transfers, so that others get at the lock

_SCHEMA = """
PRAGMA journal_mode = TRUNCATE;
CREATE TABLE account (number INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE transfer (number INTEGER PRIMARY KEY, payer INTEGER, payee INTEGER, amount INTEGER, text TEXT);
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """What the ledger says at one moment. ``digest`` covers every balance and every transfer."""

    transfers: int
    total: int
    digest: str

    def __str__(self) -> str:
        return f"{self.transfers} transfers, accounts sum to {self.total}, digest {self.digest}"


def create(path: Path) -> None:
    """Make a ledger with ``ACCOUNTS`` accounts of ``START_BALANCE`` each."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_SCHEMA)
        accounts = ((number, START_BALANCE) for number in range(ACCOUNTS))
        database.executemany("INSERT INTO account VALUES (?, ?)", accounts)
        database.commit()


def read(path: Path) -> Statement:
    """What a ledger that nobody works on says.

    Raises:
        DemoError: SQLite finds it damaged.
    """
    with closing(sqlite3.connect(path)) as database:
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise DemoError(f"{path}: SQLite says {verdict}")
        return _statement(database)


@contextmanager
def held(path: Path) -> Iterator[Statement]:
    """Hold the ledger by its own lock: until the end of the block nobody reads or writes it."""
    with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        try:
            yield _statement(database)
        finally:
            database.execute("ROLLBACK")


def _statement(database: sqlite3.Connection) -> Statement:
    digest = hashlib.sha256()
    for table in ("account", "transfer"):
        for row in database.execute(f"SELECT * FROM {table} ORDER BY number"):
            digest.update(repr(row).encode())
    transfers = database.execute("SELECT count(*) FROM transfer").fetchone()[0]
    total = database.execute("SELECT sum(balance) FROM account").fetchone()[0]
    return Statement(transfers, total, digest.hexdigest()[:16])


class Bookkeeper:
    """Books transfers on a thread of its own, each in a transaction, until it is told to stop."""

    def __init__(self, path: Path) -> None:
        self.booked = 0
        self._path = path
        self._random = random.Random(0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bookkeeper", daemon=True)
        self._error: sqlite3.Error | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current transfer.

        Raises:
            DemoError: the work had ended before, with an error.
        """
        self._stop.set()
        self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise DemoError if the work ended with an error."""
        if self._error is not None:
            raise DemoError(f"the ledger stopped working: {self._error}") from self._error

    def _work(self) -> None:
        try:
            with closing(sqlite3.connect(self._path, timeout=120, isolation_level=None)) as database:
                while not self._stop.wait(_PAUSE_S):
                    self._book(database)
                    self.booked += 1
        except sqlite3.Error as error:
            self._error = error

    def _book(self, database: sqlite3.Connection) -> None:
        payer, payee = self._random.sample(range(ACCOUNTS), 2)
        amount = self._random.randrange(1, 50)
        text = f"invoice {self._random.getrandbits(64):016x}"
        change = "UPDATE account SET balance = balance + ? WHERE number = ?"
        database.execute("BEGIN IMMEDIATE")
        database.execute(change, (-amount, payer))
        database.execute(change, (amount, payee))
        database.execute(
            "INSERT INTO transfer (payer, payee, amount, text) VALUES (?, ?, ?, ?)",
            (payer, payee, amount, text),
        )
        database.execute("COMMIT")


def embezzle(path: Path) -> None:
    """What the backups are for: one account's money goes, and so do the traces."""
    with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE account SET balance = 0 WHERE number < 100")
        database.execute("DELETE FROM transfer WHERE number % 2")
        database.execute("COMMIT")
