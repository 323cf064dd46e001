"""What a trusted proxy says of who is asking: headers that count only where the proxy vouches for them.

A proxy that only passes requests on would pass on what clients write, too. So the address of a proxy is not enough: it sends
`X-Assertion: SECRET NAME...` with the names, or beginnings of names that end with a dash, of the headers that it has written
itself on the path at hand.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Sequence

_log = logging.getLogger(__name__)
_VOUCHER = "X-ASSERTION"
_NOTHING = ("", "(null)")
"""What proxies write where they have nothing to say."""


class _Names:
    """Names, and beginnings of names that end with a dash. A dash and an underscore are the same, as in WSGI's environment."""

    def __init__(self, wanted: Iterable[str]) -> None:
        names = [_plain(name) for name in wanted if name]
        self._prefixes = tuple(name for name in names if name.endswith("-"))
        self._names = frozenset(names) - set(self._prefixes)

    def __contains__(self, name: object) -> bool:
        plain = _plain(str(name))
        return plain.startswith(self._prefixes) or plain in self._names


def _plain(name: str) -> str:
    return name.upper().replace("_", "-")


class Assertions:
    """Knows the headers of assertions, `wanted`, and with what proxies vouch for them."""

    def __init__(self, wanted: Iterable[str], secret: str) -> None:
        self._wanted = _Names([*wanted, _VOUCHER])
        self._secret = secret.encode()

    def has(self, name: str) -> bool:
        """Whether a header is one of them, and no service may see it as one of the client's."""
        return name in self._wanted

    def read(self, told: Sequence[tuple[str, bytes]]) -> dict[str, str]:
        """The assertion in these headers of a trusted proxy, by names as in a WSGI environment.

        What is said twice, also once with a dash and once with an underscore, is not said at all: one of the two may come
        from the client.
        """
        vouched = self._vouched([value for name, value in told if _plain(name) == _VOUCHER])
        found: dict[str, str] = {}
        twice: set[str] = set()
        for name, value in told:
            if name not in vouched:
                continue
            key = "HTTP_" + name.upper().replace("-", "_")
            if key in found:
                twice.add(key)
            found[key] = _text(value)
        for key in twice:
            _log.warning("a trusted proxy sent %s twice: neither counts", key)
        return {key: text for key, text in found.items() if key not in twice and text not in _NOTHING}

    def _vouched(self, vouchers: Sequence[bytes]) -> _Names:
        if not self._secret or len(vouchers) != 1:
            return _Names(())
        secret, *names = vouchers[0].split() or [b""]
        if not hmac.compare_digest(secret, self._secret):
            _log.warning("a trusted proxy passed on an X-Assertion with another secret")
            return _Names(())
        return _Names(name.decode("latin-1") for name in names)


def _text(value: bytes) -> str:
    """UTF-8, as today's proxies write, or else what HTTP says."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
