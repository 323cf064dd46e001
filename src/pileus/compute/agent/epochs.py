"""The last epoch seen for every server of the host. A caller whose lease has passed to another is refused, also after a restart.

The entry of a destroyed server stays for an hour, marked gone: a request that was under way must not bring the server back. Entries also tell which
servers have run here at all: one that is still being built is not the host's to start.
"""

from __future__ import annotations

import pathlib
import sqlite3
import threading
from dataclasses import dataclass, replace

from pileus.kernel import clock
from pileus.kernel.errors import Conflict

_KEPT_SECONDS = 3600.0


class StaleEpoch(Conflict):
    """Somebody with a higher epoch has taken over."""


@dataclass(frozen=True)
class _Entry:
    epoch: int
    gone: float | None
    begun: bool


_NEW = _Entry(-1, None, False)


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
            "CREATE TABLE IF NOT EXISTS epochs (id TEXT PRIMARY KEY, epoch INTEGER, gone REAL, begun INTEGER) WITHOUT ROWID"
        )
        rows = self._file.execute("SELECT id, epoch, gone, begun FROM epochs")
        self._entries = {row[0]: _Entry(row[1], row[2], bool(row[3])) for row in rows}

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def enter(self, server_id: str, epoch: int) -> None:
        """Accept a request; StaleEpoch when a higher epoch has been seen."""
        with self._lock:
            entry = self._entries.get(server_id, _NEW)
            if epoch < entry.epoch:
                raise StaleEpoch(f"Epoch {epoch} of server {server_id} is over; {entry.epoch} has been seen.")
            self._keep(server_id, replace(entry, epoch=epoch))

    def gone(self, server_id: str) -> None:
        """Note that the server was destroyed here."""
        with self._lock:
            entry = self._entries.get(server_id, _NEW)
            self._keep(server_id, replace(entry, gone=entry.gone or clock.time(), begun=False))

    def back(self, server_id: str) -> None:
        """Note that the server is being made here."""
        with self._lock:
            self._keep(server_id, replace(self._entries.get(server_id, _NEW), gone=None))

    def begun(self, server_id: str) -> None:
        """Note that the server has been let run here."""
        with self._lock:
            self._keep(server_id, replace(self._entries.get(server_id, _NEW), begun=True))

    def has_begun(self, server_id: str) -> bool:
        """Whether the server has ever run here."""
        return self._entries.get(server_id, _NEW).begun

    def tidy(self) -> None:
        """Forget servers that are gone for long."""
        oldest = clock.time() - _KEPT_SECONDS
        with self._lock:
            old = [key for key, entry in self._entries.items() if entry.gone is not None and entry.gone < oldest]
            for server_id in old:
                del self._entries[server_id]
                self._file.execute("DELETE FROM epochs WHERE id = ?", (server_id,))

    def _keep(self, server_id: str, entry: _Entry) -> None:
        if entry == self._entries.get(server_id):
            return
        self._entries[server_id] = entry
        row = (server_id, entry.epoch, entry.gone, entry.begun)
        self._file.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?)", row)
