"""Time. Rooms ask this module and nothing else, so that tests and the simulation can own it."""

from __future__ import annotations

import datetime as _dt
import threading
import time as _time
from typing import Protocol


class Clock(Protocol):
    """What a source of time offers; all in seconds."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        return _time.time()

    def monotonic(self) -> float:
        return _time.monotonic()

    def sleep(self, seconds: float) -> None:
        _time.sleep(seconds)


class VirtualClock:
    """A clock that moves only when told, for tests. Sleeping moves it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


_clock: Clock = SystemClock()


def use(clock: Clock) -> Clock:
    """Install another source of time; returns the one in use until now."""
    global _clock
    previous, _clock = _clock, clock
    return previous


def time() -> float:
    """Seconds since the epoch."""
    return _clock.time()


def monotonic() -> float:
    return _clock.monotonic()


def sleep(seconds: float) -> None:
    _clock.sleep(seconds)


def utcnow() -> _dt.datetime:
    """Now, as a naive datetime in UTC with microseconds: the form in which databases keep it."""
    return from_epoch(_clock.time())


def from_epoch(seconds: float) -> _dt.datetime:
    return _dt.datetime.fromtimestamp(seconds, _dt.UTC).replace(tzinfo=None)


def to_epoch(moment: _dt.datetime) -> float:
    return moment.replace(tzinfo=_dt.UTC).timestamp()


def iso(moment: _dt.datetime | None) -> str | None:
    """2026-11-20T10:22:14Z, as compute, network and image print times."""
    return None if moment is None else moment.isoformat(timespec="seconds") + "Z"


def iso_micro(moment: _dt.datetime | None) -> str | None:
    """2026-11-20T10:22:14.000000, as identity, block storage and some fields of compute print times."""
    return None if moment is None else moment.isoformat(timespec="microseconds")


def iso_utc(moment: _dt.datetime | None) -> str | None:
    """2026-11-20T10:22:14.000000Z, as tokens, receipts and trusts print times."""
    return None if moment is None else moment.isoformat(timespec="microseconds") + "Z"


def parse(text: str) -> _dt.datetime:
    """An ISO 8601 moment as naive UTC; ValueError when it is none, or in UTC outside of the years 1 to 9999."""
    moment = _dt.datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(_dt.UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise ValueError(str(error)) from None
