"""Access rules of application credentials: the requests to which a token is confined.

A rule names a service type, a method and a pattern of paths, as keystone's user guide describes them: `*` and `{name}`
stand for one or more characters of one segment, `**` for any characters at all.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

_PARTS = re.compile(r"\{[^}]*\}|(?:\*\*)+|.", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class AccessRule:
    service: str
    method: str
    path: str


class Pattern:
    """A pattern of paths. Bit i of a set of states says that the first i parts of the pattern have been matched.

    All states advance together with each character, so that no pattern and no path, both of which strangers choose,
    takes longer than in proportion to the path's length.
    """

    def __init__(self, pattern: str) -> None:
        self._literals: dict[str, int] = {}
        self._segment = 0  # states from which a character other than "/" leads on
        self._again = 0  # states that such a character does not leave
        self._any = 0  # states that no character leaves, and that lead on without one
        state = 1
        for part in _PARTS.findall(pattern):
            if part.startswith("**"):
                self._any |= state
            elif part == "*" or len(part) > 1:
                self._segment |= state
                self._again |= state << 1
            else:
                self._literals[part] = self._literals.get(part, 0) | state
            state <<= 1
        self._end = state

    def matches(self, path: str) -> bool:
        states = 1
        states |= (states & self._any) << 1
        for character in path:
            staying, leading = states & self._any, self._literals.get(character, 0)
            if character != "/":
                staying |= states & self._again
                leading |= self._segment
            states = (states & leading) << 1 | staying
            states |= (states & self._any) << 1
            if not states:
                return False
        return bool(states & self._end)


_pattern = functools.lru_cache(maxsize=1024)(Pattern)


def allow(rules: Iterable[AccessRule], service_type: str, method: str, paths: Sequence[str]) -> bool:
    """Whether a rule is for this request; `paths` are the names that its resource has."""
    return any(
        rule.service == service_type
        and rule.method == method
        and any(_pattern(rule.path).matches(path) for path in paths)
        for rule in rules
    )
