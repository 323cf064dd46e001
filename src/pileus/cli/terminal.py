"""What a person sees: steps with durations, sentences, colours only on a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from pileus.kernel import clock


class Steps:
    """Prints each step with its duration; on a terminal a running step shows its seconds."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self.durations: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One step of a longer work."""
        start = clock.monotonic()
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, start, done), daemon=True)
        if self._live:
            ticker.start()
        try:
            yield
        except BaseException:
            done.set()
            self._line("✗", text, clock.monotonic() - start, "31")
            raise
        done.set()
        if self._live:
            ticker.join()
        self.durations[text] = clock.monotonic() - start
        self._line("✓", text, self.durations[text], "32")

    def say(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr)

    def _tick(self, text: str, start: float, done: threading.Event) -> None:
        while not done.wait(0.2):
            print(f"\r  … {text} {clock.monotonic() - start:5.1f} s", end="", file=sys.stderr, flush=True)

    def _line(self, mark: str, text: str, seconds: float, colour: str) -> None:
        if self._quiet:
            return
        start, end = ("\r\x1b[K", "\n") if self._live else ("", "\n")
        painted = f"\x1b[{colour}m{mark}\x1b[0m" if self._live else mark
        print(f"{start}  {painted} {text:<52} {seconds:6.2f} s", end=end, file=sys.stderr, flush=True)


class Problem(Exception):
    """Something the user has to hear: printed as a sentence, exit code 1."""
