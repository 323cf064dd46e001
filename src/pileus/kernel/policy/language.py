"""The rule language of oslo.policy: `role:admin or (project_id:%(project_id)s and not role:reader)`.

A rule becomes a closure `(credentials, target) -> bool`. Facts of the language are from the oslo.policy
documentation; oslo.policy itself is the oracle in the tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Credentials = Mapping[str, Any]
Target = Mapping[str, Any]
Check = Callable[[Credentials, Target], bool]
Lookup = Callable[[str], Check | None]

_TOKEN = re.compile(r"\(|\)|[^\s()']*'[^']*'(?::%\([^)]*\)s)?|(?:%\([^)]*\)s|[^\s()])+")
_SUBSTITUTE = re.compile(r"%\(([^)]*)\)s")


class PolicySyntaxError(ValueError):
    """A rule that cannot be read."""


def compile_rule(rule: str | Sequence[Any], lookup: Lookup) -> Check:
    """The closure of a rule. `lookup` gives the closure of a named rule at check time (None: unknown, refused).

    Raises PolicySyntaxError.
    """
    if not isinstance(rule, str):
        return _list_rule(rule, lookup)
    if not rule:
        return _true
    text = rule.strip()
    tokens = _TOKEN.findall(text)
    parser = _Parser(tokens, lookup, text)
    return parser.whole()


def references(rule: str | Sequence[Any]) -> set[str]:
    """The named rules that a rule asks."""
    if not isinstance(rule, str):
        return set().union(*(references(part) for part in rule)) if rule else set()
    return {token.removeprefix("rule:") for token in _TOKEN.findall(rule) if token.startswith("rule:")}


def _list_rule(rule: Sequence[Any], lookup: Lookup) -> Check:
    """The old form: a list of lists, outer `or`, inner `and`."""
    if not rule:
        return _true
    alternatives = []
    for inner in rule:
        terms = [inner] if isinstance(inner, str) else list(inner)
        if terms:
            alternatives.append(_all([_term(term, lookup) for term in terms]))
    return _any(alternatives) if alternatives else _false


class _Parser:
    """Precedence: not, and, or."""

    def __init__(self, tokens: list[str], lookup: Lookup, text: str) -> None:
        self.tokens = tokens
        self.lookup = lookup
        self.text = text
        self.position = 0

    def whole(self) -> Check:
        check = self.alternatives()
        if self.position != len(self.tokens):
            raise PolicySyntaxError(f"unexpected {self.tokens[self.position]!r} in rule {self.text!r}")
        return check

    def peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def alternatives(self) -> Check:
        terms = [self.conjunction()]
        while (token := self.peek()) is not None and token.lower() == "or":
            self.position += 1
            terms.append(self.conjunction())
        return _any(terms)

    def conjunction(self) -> Check:
        terms = [self.factor()]
        while (token := self.peek()) is not None and token.lower() == "and":
            self.position += 1
            terms.append(self.factor())
        return _all(terms)

    def factor(self) -> Check:
        token = self.peek()
        if token is None:
            raise PolicySyntaxError(f"rule {self.text!r} ends too early")
        self.position += 1
        if token.lower() == "not":
            inner = self.factor()
            return lambda credentials, target: not inner(credentials, target)
        if token == "(":
            inner = self.alternatives()
            if self.peek() != ")":
                raise PolicySyntaxError(f"a closing parenthesis is missing in rule {self.text!r}")
            self.position += 1
            return inner
        if token == ")" or token.lower() in {"and", "or"}:
            raise PolicySyntaxError(f"unexpected {token!r} in rule {self.text!r}")
        return _term(token, self.lookup)


def _true(_credentials: Credentials, _target: Target) -> bool:
    return True


def _false(_credentials: Credentials, _target: Target) -> bool:
    return False


def _any(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]
    return lambda credentials, target: any(check(credentials, target) for check in checks)


def _all(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]
    return lambda credentials, target: all(check(credentials, target) for check in checks)


def _term(term: str, lookup: Lookup) -> Check:
    if term == "@":
        return _true
    if term == "!":
        return _false
    kind, separator, match = term.partition(":")
    if term[:1] in "'\"":  # a quoted left side may hold a colon
        quote = term[0]
        end = term.find(quote, 1)
        kind, separator, match = term[: end + 1], term[end + 1 : end + 2], term[end + 2 :]
    if separator != ":":
        raise PolicySyntaxError(f"{term!r} is not of the form kind:match")
    if kind == "rule":
        return _named(match, lookup)
    if kind == "role":
        return _role(match)
    if kind in {"http", "https"}:
        raise PolicySyntaxError(f"{term!r}: remote checks are not supported")
    return _attribute(kind, match)


def _named(name: str, lookup: Lookup) -> Check:
    def check(credentials: Credentials, target: Target) -> bool:
        named = lookup(name)
        return named is not None and named(credentials, target)

    return check


def _role(match: str) -> Check:
    if "%(" not in match:
        wanted = match.lower()
        return lambda credentials, _target: wanted in credentials["roles"]

    def check(credentials: Credentials, target: Target) -> bool:
        value = _substitute(match, target)
        return value is not None and value.lower() in credentials["roles"]

    return check


def _attribute(kind: str, match: str) -> Check:
    """`attribute:value`: an attribute of the caller (or a literal) against a literal or an attribute of the target."""
    single = _SUBSTITUTE.fullmatch(match)
    key = single.group(1) if single else ""
    fixed = match if "%(" not in match else None
    try:
        literal = str(ast.literal_eval(kind))
    except (ValueError, SyntaxError):
        literal = None
    path = kind.split(".")

    def check(credentials: Credentials, target: Target) -> bool:
        if fixed is not None:
            wanted: str | None = fixed
        elif single:
            value = target.get(key, _MISSING)
            wanted = None if value is _MISSING else str(value)
        else:
            wanted = _substitute(match, target)
        if wanted is None:
            return False
        if literal is not None:
            return literal == wanted
        return _matches(credentials, path, wanted)

    return check


_MISSING = object()


def _matches(value: Any, path: Sequence[str], wanted: str) -> bool:
    for index, part in enumerate(path):
        if isinstance(value, (list, tuple)):
            return any(_matches(item, path[index:], wanted) for item in value)
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    if isinstance(value, (list, tuple)):
        return any(str(item) == wanted for item in value)
    return str(value) == wanted


def _substitute(match: str, target: Target) -> str | None:
    """The match with `%(name)s` filled in from the target; None when the target has no such attribute."""
    names = _SUBSTITUTE.findall(match)
    if any(name not in target for name in names):
        return None
    return _SUBSTITUTE.sub(lambda found: str(target[found.group(1)]), match)
