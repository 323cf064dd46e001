"""What a trusted proxy says of who is asking: headers that it alone may send."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

_log = logging.getLogger(__name__)


class Assertions:
    """Knows the headers of assertions: `wanted` are names, or beginnings of names that end with a dash.

    A dash and an underscore are the same, as they are in the environment of a WSGI application.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        names = [name.upper().replace("_", "-") for name in wanted if name]
        self._prefixes = tuple(name for name in names if name.endswith("-"))
        self._names = frozenset(names) - set(self._prefixes)

    def has(self, name: str) -> bool:
        """Whether a header (its name in capitals) is one of them."""
        plain = name.replace("_", "-")
        return plain.startswith(self._prefixes) or plain in self._names

    def read(self, told: Sequence[tuple[str, bytes]]) -> dict[str, str]:
        """The assertion, by names as in a WSGI environment.

        What is said twice, also once with a dash and once with an underscore, is not said at all: one of the two may come
        from the client.
        """
        found: dict[str, str] = {}
        twice: set[str] = set()
        for name, value in told:
            key = "HTTP_" + name.replace("-", "_")
            if key in found:
                twice.add(key)
            found[key] = _text(value)
        for key in twice:
            _log.warning("a trusted proxy sent %s twice: neither counts", key)
            del found[key]
        return found


def _text(value: bytes) -> str:
    """UTF-8, as today's proxies write, or else what HTTP says."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
