"""What the handlers share: policy targets, filters and pages of lists, and pieces of schemas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pileus.identity.errors import invalid, not_found
from pileus.identity.logic import projects
from pileus.identity.logic.proofs import SignedRequest
from pileus.identity.store.listing import COMPARATORS, Filter, Listing, Record
from pileus.kernel import clock
from pileus.kernel.web import Call

# Schemas --------------------------------------------------------------------------------------------------------------

ID = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-]+$"}
ID_OF_FEDERATION = {"type": "string", "minLength": 1, "maxLength": 64}
NULLABLE_ID = {**ID, "type": ["string", "null"]}
NAME = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"[\S]+"}
SHORT_NAME = {**NAME, "maxLength": 64}
TEXT = {"type": ["string", "null"]}
BOOLEAN = {"type": "boolean"}
IMMUTABLE_OPTIONS = {
    "type": "object",
    "properties": {"immutable": {"type": ["boolean", "null"]}},
    "additionalProperties": False,
}


def wrapped(
    name: str, properties: Mapping[str, Any], *, required: Sequence[str] = (), least: int = 0, strict: bool = False
) -> dict[str, Any]:
    """The schema of `{name: {...}}`. Attributes that identity does not know are kept, or with `strict` refused."""
    inner: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": not strict}
    if required:
        inner["required"] = list(required)
    if least:
        inner["minProperties"] = least
    return {"type": "object", "properties": {name: inner}, "required": [name]}


# Policy ---------------------------------------------------------------------------------------------------------------


def permit(call: Call, target: Mapping[str, Any], rule: str | None = None) -> None:
    """Authorize with this target and the parameters of the path, which upstream's rules may name. Raises Forbidden."""
    call.authorize({**call.params, **target}, rule=rule)


def target(
    *,
    user: Record | None = None,
    group: Record | None = None,
    project: Record | None = None,
    domain: Record | None = None,
    role: Record | None = None,
) -> dict[str, Any]:
    """Rows as the rules see them. What does not exist is left out, so that only those may learn of it who may all."""
    found: dict[str, Any] = {}
    for name, row in (("user", user), ("group", group), ("project", project)):
        if row is not None:
            found[f"target.{name}.id"] = row.id
            if row.domain_id:
                found[f"target.{name}.domain_id"] = row.domain_id
    if domain is not None:
        found["target.domain.id"] = domain.id
    if role is not None:
        found["target.role.name"] = role.name
        found["target.role.domain_id"] = role.domain_id or None
    return found


def permitted_project(call: Call) -> tuple[Record, list[str]]:
    """The project of the path with its tags, authorized. Raises Forbidden, NotFound."""
    row, tags = projects.find(call.service, call.params["project_id"])
    permit(call, target(project=row))
    if row is None:
        raise not_found("project", call.params["project_id"])
    return row, tags


def own_domain(call: Call, name: str) -> dict[str, Any]:
    """The target of a list: the domain of a domain-scoped caller, who will see nothing else."""
    return {name: call.context.domain_id} if call.context.domain_id else {}


def with_domain(call: Call, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with a domain: the given one, the caller's own, or the default."""
    found = dict(body)
    if found.get("domain_id") is None:
        found["domain_id"] = call.context.domain_id or call.service.options.default_domain_id
    return found


# Forms and signatures ------------------------------------------------------------------------------------------------------------


FORM = "application/x-www-form-urlencoded"
_LONGEST_FORM = 16384
"""Bytes: far more than any client sends."""


def form(call: Call) -> list[tuple[str, str]]:
    """The parameters of the body; none without a body. Raises Invalid for a body that is no form."""
    sent = call.content(_LONGEST_FORM)
    if not sent:
        return []
    if (call.headers.get("Content-Type") or "").partition(";")[0].strip().lower() != FORM:
        raise invalid(f"The body must be empty or {FORM}.")
    try:
        return parse_qsl(sent.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise invalid("The form cannot be read.") from None


def signed_request(call: Call, parameters: Sequence[tuple[str, str]] = ()) -> SignedRequest:
    """What OAuth 1.0 signs of this request."""
    return SignedRequest(
        method=call.method,
        url=call.root_link(call.path),
        authorization=call.headers.get("Authorization") or "",
        query=tuple(call.query.items()),
        form=tuple(parameters),
    )


# Lists ----------------------------------------------------------------------------------------------------------------

_MOST = 1_000_000  # what databases can count with, and more than anybody reads at once
_NO = frozenset({"0", "false", "off", "no", "f", "n"})


def flag(value: str | None) -> bool:
    """A boolean of a query, as upstream reads it: a name without a value is true."""
    return value is not None and value.lower() not in _NO


def listing(call: Call, attributes: Collection[str], flags: Collection[str] = ("enabled",)) -> Listing:
    """The filters on these attributes, limit and marker. Raises Invalid for a limit that is no number."""
    filters = []
    for key, value in call.query.items():
        attribute, _, comparator = key.partition("__")
        if attribute in flags and not comparator:
            if attribute in attributes:
                filters.append(Filter(attribute, flag(value)))
        elif attribute in attributes and (not comparator or comparator in COMPARATORS):
            filters.append(Filter(attribute, value, comparator))
    return Listing(tuple(filters), limit(call), call.query.one("marker"))


_MOMENT_OPERATORS = {"lt": "lt", "lte": "lte", "gt": "gt", "gte": "gte", "eq": "", "neq": "neq"}


def people(call: Call) -> Listing:
    """The filters of lists of users: the plain ones, and the moment at which passwords end. Raises Invalid."""
    wanted = listing(call, ("domain_id", "enabled", "name"))
    moments = tuple(_moment("password_expires_at", text) for text in call.query.all("password_expires_at"))
    return dataclasses.replace(wanted, filters=wanted.filters + moments)


def _moment(attribute: str, text: str) -> Filter:
    """`lt:2026-11-20T10:22:14Z`; without an operator the very moment."""
    operator, colon, moment = text.partition(":")
    if not colon or operator[:1].isdigit():
        operator, moment = "eq", text
    if operator not in _MOMENT_OPERATORS:
        known = ", ".join(_MOMENT_OPERATORS)
        raise invalid(f"Invalid input for query parameter '{attribute}': the operator {operator!r} is none of {known}.")
    try:
        return Filter(attribute, clock.parse(moment), _MOMENT_OPERATORS[operator])
    except ValueError:
        raise invalid(
            f"Invalid input for query parameter '{attribute}': {moment!r} is no moment like 2026-11-20T10:22:14Z."
        ) from None


def limit(call: Call) -> int:
    """The smaller of what is asked for and what is allowed; 0 is no limit."""
    most: int = call.service.options.list_limit
    asked = call.query.one("limit")
    if asked is None:
        return most
    if not asked.isdigit():
        raise invalid(f"Invalid input for query parameter 'limit': {asked!r} is not a whole number.")
    wanted = min(int(asked[:12]), _MOST)
    return min(wanted, most) if wanted and most else wanted or most


def collection(
    call: Call,
    name: str,
    rows: Sequence[Record],
    render: Callable[[Record], dict[str, Any]],
    wanted: Listing | None = None,
) -> dict[str, Any]:
    """`{name: [...], "links": ...}`; a list that was cut says so and links to what follows."""
    most = wanted.limit if wanted is not None else 0
    cut = bool(most) and len(rows) > most
    shown = rows[:most] if cut else rows
    query = list(call.query.items())
    here = call.root_link(call.path)
    body: dict[str, Any] = {
        name: [render(row) for row in shown],
        "links": {"next": None, "self": f"{here}?{urlencode(query)}" if query else here, "previous": None},
    }
    if cut:
        following = [(key, value) for key, value in query if key != "marker"] + [("marker", shown[-1].id)]
        body["links"]["next"] = f"{here}?{urlencode(following)}"
        body["truncated"] = True
    return body
