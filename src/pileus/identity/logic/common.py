"""What the commands on all resources share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import IntegrityError

from pileus.identity.errors import Immutable, duplicate_name, invalid
from pileus.kernel.db import is_unique_violation


def extra_of(body: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Attributes of the caller's own, which identity keeps and gives back."""
    return {name: value for name, value in body.items() if name not in known and name not in {"id", "links"}}


def merged_extra(present: Mapping[str, Any] | None, body: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    return {**(present or {}), **extra_of(body, known)}


def merged_options(present: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """An option set to None is removed."""
    options = {**(present or {}), **(given or {})}
    return {name: value for name, value in options.items() if value is not None}


def check_immutable(kind: str, identifier: str, options: Mapping[str, Any], body: Mapping[str, Any] | None) -> None:
    """An immutable resource allows one change: to be made mutable. `body` None is a deletion."""
    if not options.get("immutable"):
        return
    if body is not None and set(body) == {"options"} and body["options"].get("immutable", True) in {None, False}:
        return
    raise Immutable(kind, identifier)


def check_same_id(kind: str, identifier: str, body: Mapping[str, Any]) -> None:
    if body.get("id", identifier) != identifier:
        raise invalid(f"Cannot change {kind} ID")


def check_same_domain(present: str | None, body: Mapping[str, Any]) -> None:
    if "domain_id" in body and body["domain_id"] != present:
        raise invalid("Cannot change Domain ID")


@contextmanager
def unique_name(kind: str, name: str, domain_id: str | None = None) -> Iterator[None]:
    """Turns the breach of a unique constraint into the conflict that clients know."""
    try:
        yield
    except IntegrityError as error:
        if is_unique_violation(error):
            raise duplicate_name(kind, name, domain_id) from None
        raise
