"""What all collections of this API do alike: bodies, bulk, visibility, filters, fields, pages, attribute rules, revisions.

Handlers name a Kind and the logic's command; everything that differs is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa

from pileus.kernel.web import Call
from pileus.network import errors
from pileus.network.api.attributes import Attributes, on_create, on_update
from pileus.network.policy import RULES
from pileus.network.store import listing
from pileus.network.store import tables as t
from pileus.network.store.kinds import Condition, Kind, external_networks, shared_networks

Body = dict[str, Any]
Target = dict[str, Any]

NOBODY = "\x00"
_PAGING = {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}
_REVISION = re.compile(r'"?revision_number=(\d+)"?\Z')


# -- who may see what ------------------------------------------------------------------------------------------------


def visible(call: Call, kind: Kind) -> Condition | None:
    """The rows this caller may list: None is all. Policy is asked with made-up targets, so it stays one check for any number of rows."""
    call.mark_authorized()
    project = call.context.project_id or ""
    nobody = _owner(NOBODY)
    if call.allows(kind.rule, nobody):
        return None
    conditions: list[Condition] = []
    if project and call.allows(kind.rule, _owner(project)):
        conditions.append(kind.table.c.project_id == project)
    for sight in kind.sights:
        value = True if sight.flag else project
        if (sight.flag or project) and call.allows(kind.rule, {**nobody, sight.key: value}):
            conditions.append(sight.condition(project))
    return sa.or_(*conditions) if conditions else sa.false()


def _owner(project: str) -> Target:
    return {"project_id": project, "tenant_id": project}


def find(call: Call, kind: Kind, id: str) -> Body:
    """One resource that the caller may see, with all attributes. Raises the kind's error."""
    condition = visible(call, kind)
    with call.service.db.read() as conn:
        found = listing.find(conn, kind, listing.Wanted(condition, {"id": [id]}, viewer=call.context.project_id))
    if not found:
        raise kind.missing(id)
    return found[0]


def authorize(call: Call, rule: str, target: Target) -> None:
    """Refuse with 403 what the caller may see but not do."""
    call.authorize(target, rule=rule, hidden=errors.PolicyNotAuthorized(f"rule:{rule} is disallowed by policy"))


def authorize_attributes(call: Call, action: str, kind: Kind, values: Mapping[str, Any], target: Target) -> None:
    """The rules of the attributes that the body names, and of the fields inside them."""
    for name, value in values.items():
        rule = f"{action}_{kind.name}:{name}"
        if rule in RULES:
            authorize(call, rule, target)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                for field in item:
                    if f"{rule}:{field}" in RULES:
                        authorize(call, f"{rule}:{field}", target)


def hide(call: Call, kind: Kind, bodies: Sequence[Body]) -> None:
    """Take out the attributes this caller may not see and those it did not ask for."""
    target = _owner(call.context.project_id or "")
    hidden = [rule.partition(":")[2] for rule in _GUARDED.get(kind.name, ()) if not call.allows(rule, target)]
    for body in bodies:
        for name in hidden:
            body.pop(name, None)
    fields = [name for value in call.query.all("fields") for name in value.split(",") if name]
    if fields:
        for body in bodies:
            for name in [name for name in body if name not in fields]:
                del body[name]


def _guarded() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rule in RULES:
        if rule.startswith("get_") and ":" in rule:
            found.setdefault(rule[4:].partition(":")[0], []).append(rule)
    return found


_GUARDED = _guarded()


# -- lists -----------------------------------------------------------------------------------------------------------


def list_all(call: Call, kind: Kind) -> Body:
    """A page of a collection, with links to its neighbours."""
    limit, asked = _limit(call)
    wanted = listing.Wanted(
        visible=visible(call, kind),
        filters=_filters(call, kind),
        sort=_sort(call),
        limit=limit,
        marker=call.query.one("marker"),
        backwards=(call.query.one("page_reverse") or "").lower() in {"true", "1"},
        viewer=call.context.project_id,
    )
    with call.service.db.read() as conn:
        found = listing.find(conn, kind, wanted)
    links = _links(call, kind, found, asked, wanted) if asked else []
    hide(call, kind, found)
    body: Body = {kind.plural: found}
    if links:
        body[f"{kind.plural}_links"] = links
    return body


def _limit(call: Call) -> tuple[int | None, int | None]:
    """Rows to read and the page size asked for; 0 and none mean no limit."""
    text = call.query.one("limit")
    most = call.service.options.page_limit or None
    if text is None:
        return most, most
    try:
        limit = int(text)
    except ValueError:
        limit = -1
    if limit < 0:
        raise errors.HTTPBadRequest(f"Limit must be an integer 0 or greater and not '{text}'")
    if limit == 0:
        return most, most
    limit = min(limit, most) if most else min(limit, 2**31)
    return limit, limit


def _filters(call: Call, kind: Kind) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    unknown = []
    for name, values in call.query.as_lists().items():
        if name in _PAGING:
            continue
        if not listing.is_filter(kind, name):
            unknown.append(name)
            continue
        filters.setdefault("project_id" if name == "tenant_id" else name, []).extend(values)
    if unknown:
        raise errors.HTTPBadRequest(f"{unknown} is invalid attribute for filtering")
    return filters


def _sort(call: Call) -> list[tuple[str, str]]:
    keys, directions = call.query.all("sort_key"), call.query.all("sort_dir")
    if len(directions) not in {0, len(keys)}:
        raise errors.HTTPBadRequest("The number of sort_keys and sort_dirs must be same")
    for direction in directions:
        if direction not in {"asc", "desc"}:
            raise errors.HTTPBadRequest(f"{[direction]} is invalid value for sort_dirs, valid value is 'asc' and 'desc'")
    return list(zip(keys, directions or ["asc"] * len(keys), strict=True))


def _links(call: Call, kind: Kind, found: list[Body], limit: int, wanted: listing.Wanted) -> list[Body]:
    """`next` where the page is full, `previous` where it does not begin the list (the extension `pagination`)."""
    if not found:
        return []
    links = []
    if len(found) == limit or wanted.backwards:
        links.append({"rel": "next", "href": _page_url(call, kind, found[-1]["id"], backwards=False)})
    if wanted.marker or wanted.backwards:
        links.append({"rel": "previous", "href": _page_url(call, kind, found[0]["id"], backwards=True)})
    return links


def _page_url(call: Call, kind: Kind, marker: str, *, backwards: bool) -> str:
    pairs = [(name, value) for name, value in call.query.items() if name not in {"marker", "page_reverse"}]
    pairs.append(("marker", marker))
    if backwards:
        pairs.append(("page_reverse", "True"))
    return call.link(f"/{kind.plural.replace('_', '-')}") + "?" + urlencode(pairs)


# -- one resource ----------------------------------------------------------------------------------------------------


def show(call: Call, kind: Kind, id: str) -> Body:
    """A resource as this caller sees it."""
    body = find(call, kind, id)
    hide(call, kind, [body])
    return {kind.name: body}


def bodies(call: Call, kind: Kind) -> tuple[list[Any], bool]:
    """The items of a create and whether they came in bulk."""
    body = call.body
    if not isinstance(body, dict) or not body:
        raise errors.HTTPBadRequest("Resource body required")
    if kind.name in body:
        return [body[kind.name]], False
    if kind.plural in body:
        items = body[kind.plural]
        if not isinstance(items, list) or not items:
            raise errors.HTTPBadRequest("Resources required")
        return items, True
    raise errors.HTTPBadRequest(f"Unable to find '{kind.name}' in request body")


def item(call: Call, kind: Kind) -> Any:
    """The item of an update."""
    if not isinstance(call.body, dict) or not call.body:
        raise errors.HTTPBadRequest("Resource body required")
    if kind.name not in call.body:
        raise errors.HTTPBadRequest(f"Unable to find '{kind.name}' in request body")
    return call.body[kind.name]


def on_behalf(call: Call, values: Body) -> None:
    """Settle the project of what is created: the caller's own, or another's for administrators and services."""
    context = call.context
    wanted = values.get("project_id")
    if wanted is not None and wanted != context.project_id and not (context.is_admin or context.is_service):
        raise errors.HTTPBadRequest(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges"
        )
    if wanted is None:
        if not context.project_id:
            raise errors.HTTPBadRequest("Running without keystone AuthN requires that tenant_id is specified")
        values["project_id"] = context.project_id


def parse_new(call: Call, kind: Kind, attributes: Attributes, target: Callable[[Body], Target] | None = None) -> tuple[list[Body], bool]:
    """The authorized values of a create, one dictionary per item, and whether they came in bulk.

    `target` adds to the policy target what the values only refer to (the owner of the network).
    """
    raw, bulk = bodies(call, kind)
    items = []
    for one in raw:
        values = on_create(kind.name, attributes, one)
        on_behalf(call, values)
        aim = {**values, "tenant_id": values["project_id"], **(target(values) if target else {})}
        named = {name: values[name] for name in values if name in one}
        authorize(call, f"create_{kind.name}", aim)
        authorize_attributes(call, "create", kind, named, aim)
        items.append(values)
    return items, bulk


def answer_new(call: Call, kind: Kind, made: list[Body], *, bulk: bool) -> Body:
    """The answer to a create."""
    hide(call, kind, made)
    return {kind.plural: made} if bulk else {kind.name: made[0]}


def target_of(kind: Kind, body: Body, more: Target | None = None) -> Target:
    """The policy target of a resource's dictionary."""
    target = dict(body)
    target.setdefault("tenant_id", target.get("project_id"))
    if kind.name == "port":
        target["network_device"] = target["device_owner"].startswith("network:")
    return {**target, **(more or {})}


def parse_change(
    call: Call, kind: Kind, attributes: Attributes, id: str, more: Callable[[Body], Target] | None = None
) -> tuple[Body, Body]:
    """The resource as it is, and the authorized values of an update."""
    current = find(call, kind, id)
    values = on_update(kind.name, attributes, item(call, kind))
    target = target_of(kind, {**current, **values}, more(current) if more else None)
    target["project_id"] = target["tenant_id"] = current["project_id"]
    authorize(call, f"update_{kind.name}", target)
    authorize_attributes(call, "update", kind, values, target)
    return current, values


def may_delete(call: Call, kind: Kind, id: str, more: Callable[[Body], Target] | None = None) -> Body:
    """The resource, once it is sure that the caller may delete it."""
    current = find(call, kind, id)
    authorize(call, f"delete_{kind.name}", target_of(kind, current, more(current) if more else None))
    return current


def answer(call: Call, kind: Kind, body: Body) -> Body:
    """The answer to an update."""
    hide(call, kind, [body])
    return {kind.name: body}


def revision(call: Call) -> int | None:
    """The revision that If-Match asks for (the extension revision-if-match). Raises HTTPBadRequest."""
    text = call.headers.get("If-Match")
    if text is None:
        return None
    found = _REVISION.match(text.strip())
    if not found:
        raise errors.HTTPBadRequest("Bad format in If-Match header: revision_number=NUMBER is understood")
    return int(found.group(1))


def network_facts(call: Call, network_id: str) -> Target:
    """What a port's or subnet's policy target takes from its network: one query, and {} when there is no such network."""
    table, project = t.networks, call.context.project_id or ""
    query = sa.select(
        table.c.project_id,
        sa.or_(table.c.shared, table.c.id.in_(shared_networks(project))),
        sa.or_(table.c.external, table.c.id.in_(external_networks(project))),
    ).where(table.c.id == network_id)
    with call.service.db.read() as conn:
        row = conn.execute(query).first()
    if row is None:
        return {}
    return {
        "network:tenant_id": row[0],
        "network:project_id": row[0],
        "shared": bool(row[1]),
        "router:external": bool(row[2]),
    }


def network_target(call: Call, network_id: str) -> Target:
    """The facts of a network that this caller must be able to see. Raises NetworkNotFound."""
    facts = network_facts(call, network_id)
    if not facts or not call.allows("get_network", {**facts, **_owner(facts["network:tenant_id"])}):
        raise errors.NetworkNotFound(network_id)
    return facts
