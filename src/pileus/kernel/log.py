"""Structured logs: one JSON object a line, with the request ids, rotated by size. Secrets never get here: nobody logs
bodies, tokens or passwords.
"""

from __future__ import annotations

import logging
import logging.handlers
import pathlib
import sys

import orjson

from pileus.kernel import clock

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A record as one line of JSON; `extra` values become fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": clock.from_epoch(record.created).isoformat(timespec="milliseconds") + "Z",
            "level": record.levelname.lower(),
            "process": self._role,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({key: value for key, value in vars(record).items() if key not in _KNOWN})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def to_file(path: pathlib.Path, role: str, level: int = logging.INFO) -> None:
    """Log of this process to a file of at most 5 times 10 MB."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=10_000_000, backupCount=4, delay=True)
    handler.setFormatter(JsonLines(role))
    _use(handler, level)


def to_terminal(level: int = logging.WARNING) -> None:
    """Log of a command, for a person."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    _use(handler, level)


def _use(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in ("alembic", "urllib3", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
