"""Rules of several methods: of which of them a user's login needs to be made."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pileus.identity.errors import invalid
from pileus.kernel import tokens

PROVABLE = tuple(name for name in tokens.METHODS if name not in {"trust", "ec2credential"})
"""Methods that a login can be made of."""


def check(body: Mapping[str, Any]) -> None:
    """The rules in the body of a user name methods that there are: another one could never be met. Raises Invalid."""
    for rule in (body.get("options") or {}).get("multi_factor_auth_rules") or ():
        for method in rule:
            if method not in PROVABLE:
                known = ", ".join(PROVABLE)
                raise invalid(f"multi_factor_auth_rules: there is no method {method!r} of authentication; there are {known}.")


def rules_of(options: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """The rules that count for a user: none where they are switched off."""
    rules: Sequence[Sequence[str]] = options.get("multi_factor_auth_rules") or ()
    return rules if options.get("multi_factor_auth_enabled", True) else ()


def are_met(rules: Sequence[Sequence[str]], methods: Collection[str]) -> bool:
    """One rule is enough, and where there is none, any method."""
    return not rules or any(set(rule) <= set(methods) for rule in rules)


def begun(rules: Sequence[Sequence[str]], methods: Collection[str]) -> list[list[str]]:
    """The rules of which a part is there, whole."""
    return [list(rule) for rule in rules if set(rule) & set(methods)]
