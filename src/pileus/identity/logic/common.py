"""What the commands on all resources share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import IntegrityError

from pileus.identity.errors import AlreadyExists, Immutable, duplicate_name, invalid
from pileus.identity.store.listing import Filter, Listing, Record
from pileus.identity.wire import Named
from pileus.kernel import clock
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


@contextmanager
def unique_id(kind: str, identifier: str) -> Iterator[None]:
    """The same where the caller chose the id."""
    try:
        yield
    except IntegrityError as error:
        if is_unique_violation(error):
            raise AlreadyExists(kind, f"Duplicate entry found with ID {identifier}") from None
        raise


def check_id(kind: str, identifier: str) -> None:
    """An id that the caller chose. Raises Invalid."""
    if not 1 <= len(identifier) <= 64:
        raise invalid(f"The id of a {kind} has at most 64 characters.")


def expiry(kind: str, text: str | None) -> dt.datetime | None:
    """The `expires_at` of a body, which has to be in the future; `kind` as in "a trust". Raises Invalid."""
    if text is None:
        return None
    try:
        moment = clock.parse(text)
    except ValueError:
        raise invalid(f"Invalid input for field 'expires_at': {text!r} is not a date and time.") from None
    if moment <= clock.utcnow():
        raise invalid(f"The expiration of {kind} must be in the future.")
    return moment


def matching(rows: Sequence[Record], wanted: Listing) -> list[Record]:
    """Those of a list that is whole already which the filters let through."""
    return [row for row in rows if all(_matches(getattr(row, one.attribute), one) for one in wanted.filters)]


def _matches(present: Any, wanted: Filter) -> bool:
    if wanted.comparator in {"", "equals"}:
        return bool(present == wanted.value)
    return Named(str(wanted.value), wanted.comparator).fits(str(present))
