"""The last epoch seen for every server of the host. A caller whose lease has passed to another is refused, also after a restart.

The entry of a destroyed server stays for an hour, marked gone: a request that was under way must not bring the server back.
"""

from __future__ import annotations

import pathlib
import sqlite3
import threading

from pileus.kernel import clock
from pileus.kernel.errors import Conflict

_KEPT_SECONDS = 3600.0


class StaleEpoch(Conflict):
    """Somebody with a higher epoch has taken over."""


class EpochBook:
    """A small SQLite file with its content in memory. Syncing is left to the kernel: a power loss ends all guests anyway."""

    def __init__(self, path: pathlib.Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        path.chmod(0o600)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=OFF")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS epochs (id TEXT PRIMARY KEY, epoch INTEGER, gone REAL) WITHOUT ROWID"
        )
        rows = self._file.execute("SELECT id, epoch, gone FROM epochs")
        self._entries: dict[str, tuple[int, float | None]] = {row[0]: (row[1], row[2]) for row in rows}

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def enter(self, server_id: str, epoch: int) -> None:
        """Accept a request; StaleEpoch when a higher epoch has been seen."""
        with self._lock:
            seen, gone = self._entries.get(server_id, (-1, None))
            if epoch < seen:
                raise StaleEpoch(f"Epoch {epoch} of server {server_id} is over; {seen} has been seen.")
            if epoch > seen:
                self._write(server_id, epoch, gone)

    def mark(self, server_id: str, *, gone: bool) -> None:
        """Note that the server was destroyed here, or made again."""
        with self._lock:
            epoch, before = self._entries.get(server_id, (-1, None))
            if gone != (before is not None):
                self._write(server_id, epoch, clock.time() if gone else None)

    def is_gone(self, server_id: str) -> bool:
        """Whether the server was destroyed here lately."""
        return self._entries.get(server_id, (-1, None))[1] is not None

    def tidy(self) -> None:
        """Forget servers that are gone for long."""
        oldest = clock.time() - _KEPT_SECONDS
        with self._lock:
            old = [key for key, (_, gone) in self._entries.items() if gone is not None and gone < oldest]
            for server_id in old:
                del self._entries[server_id]
                self._file.execute("DELETE FROM epochs WHERE id = ?", (server_id,))

    def _write(self, server_id: str, epoch: int, gone: float | None) -> None:
        self._entries[server_id] = (epoch, gone)
        self._file.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?)", (server_id, epoch, gone))
