"""The query of a list of servers, understood: which filters count for whom, and what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pileus.compute.api import schemas as s
from pileus.compute.api.server_schemas import SORT_KEYS
from pileus.compute.errors import BadRequest
from pileus.compute.logic import states
from pileus.compute.store.servers import Filters
from pileus.kernel import clock
from pileus.kernel.errors import Forbidden
from pileus.kernel.web import Call


class Nothing(Exception):
    """The filters cannot match any server."""


_EVERYBODY = frozenset(
    [
        "reservation_id",
        "name",
        "display_name",
        "status",
        "image",
        "image_ref",
        "flavor",
        "ip",
        "changes-since",
        "all_tenants",
        "instance_type_id",
    ]
)
_SINCE_283 = frozenset(
    [
        "availability_zone",
        "config_drive",
        "key_name",
        "created_at",
        "launched_at",
        "terminated_at",
        "power_state",
        "task_state",
        "vm_state",
        "progress",
        "user_id",
    ]
)


def _allowed(call: Call) -> set[str] | None:
    """The filters that count for this caller; None = all."""
    if call.allows("os_compute_api:servers:allow_all_filters"):
        return None
    found = set(_EVERYBODY)
    if call.at_least(2, 5):
        found.add("ip6")
    if call.at_least(2, 26):
        found |= {"tags", "tags-any", "not-tags", "not-tags-any"}
    if call.at_least(2, 66):
        found.add("changes-before")
    if call.at_least(2, 73):
        found.add("locked")
    if call.at_least(2, 83):
        found |= _SINCE_283
    return found


def _text(value: str) -> Any:
    return value


def _bool(value: str) -> bool:
    try:
        return s.boolean(value)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _number(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise Nothing from None


def _power(value: str) -> int:
    names = {"nostate": 0, "running": 1, "paused": 3, "shutdown": 4, "crashed": 6, "suspended": 7}
    return names[value.lower()] if value.lower() in names else _number(value)


def _moment(value: str) -> Any:
    try:
        return clock.parse(value)
    except ValueError:
        raise BadRequest(f"Invalid time '{value}'") from None


def _disk(value: str) -> str:
    return {"auto": "AUTO", "manual": "MANUAL"}.get(value.lower()) or ("AUTO" if s.lenient(value) else "MANUAL")


_COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "user_id": ("user_id", _text),
    "reservation_id": ("reservation_id", _text),
    "launch_index": ("launch_index", _number),
    "image": ("image_ref", _text),
    "image_ref": ("image_ref", _text),
    "hostname": ("hostname", _text),
    "key_name": ("key_name", _text),
    "availability_zone": ("availability_zone", _text),
    "description": ("description", _text),
    "display_description": ("description", _text),
    "locked_by": ("locked_by", _text),
    "uuid": ("id", _text),
    "root_device_name": ("root_device_name", _text),
    "config_drive": ("config_drive", s.lenient),
    "access_ip_v4": ("access_ip_v4", _text),
    "accessIPv4": ("access_ip_v4", _text),
    "access_ip_v6": ("access_ip_v6", _text),
    "accessIPv6": ("access_ip_v6", _text),
    "auto_disk_config": ("disk_config", _disk),
    "progress": ("progress", _number),
    "power_state": ("power_state", _power),
    "vm_state": ("vm_state", _text),
    "task_state": ("task_state", _text),
    "host": ("host", _text),
    "node": ("node", _text),
    "flavor": ("flavorid", _text),
    "instance_type_id": ("flavorid", _text),
    "created_at": ("created_at", _moment),
    "launched_at": ("launched_at", _moment),
    "terminated_at": ("terminated_at", _moment),
    "locked": ("locked", _bool),
}


def all_tenants(call: Call) -> bool:
    """Whether servers of all projects are asked for; an empty value says yes. Raises `BadRequest`."""
    given = call.query.one("all_tenants")
    if not given:
        return given == ""
    try:
        return s.boolean(given)
    except ValueError:
        raise BadRequest(f"Invalid value '{given}' for query parameter all_tenants.") from None


def parse(call: Call) -> Filters:
    """The filters of a request. Raises `Nothing` when they can match nothing, `BadRequest` or `Forbidden`."""
    allowed = _allowed(call)

    def given(name: str) -> str | None:
        return call.query.one(name) if allowed is None or name in allowed else None

    everybody = all_tenants(call)
    if everybody:
        kind = "detail" if call.path.rstrip("/").endswith("/detail") else "index"
        rule = f"os_compute_api:servers:{kind}:get_all_tenants"
        if not call.allows(rule):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.", code="PolicyNotAuthorized")
    project_id = call.context.project_id
    if everybody:
        project_id = given("tenant_id") or given("project_id")
    equal = {
        column: convert(value)
        for name, (column, convert) in _COLUMNS.items()
        if (value := given(name)) is not None and (name != "locked" or call.at_least(2, 73))
    }
    if given("kernel_id") or given("ramdisk_id"):
        raise Nothing
    vm_states, task_states = _status(call, allowed)
    since, before = _window(call)
    deleted = _deleted(call, given("deleted"), vm_states, since=since is not None)
    return Filters(
        project_id=project_id,
        deleted=deleted,
        equal=equal,
        name_matches=given("name") or given("display_name"),
        address_matches={v: p for v, p in ((4, given("ip")), (6, given("ip6"))) if p},
        changes_since=since,
        changes_before=before,
        vm_states=vm_states,
        task_states=task_states,
        metadata=_metadata(given("metadata")),
        **_tags(call),
    )


def _status(call: Call, allowed: set[str] | None) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    given = call.query.all("status") if allowed is None or "status" in allowed else []
    given = [value for value in given if value]
    if not given:
        return None, None
    vm_states, task_states = states.states_of(given)
    if not vm_states:
        if call.at_least(2, 38):
            raise BadRequest("Invalid status value")
        raise Nothing
    return frozenset(vm_states), None if "default" in task_states else frozenset(task_states)


def _window(call: Call) -> tuple[Any, Any]:
    since_text = call.query.one("changes-since")
    before_text = call.query.one("changes-before") if call.at_least(2, 66) else None
    since = clock.parse(since_text) if since_text else None
    before = clock.parse(before_text) if before_text else None
    if since is not None and before is not None and since > before:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    return since, before


def _deleted(call: Call, given: str | None, vm_states: frozenset[str] | None, *, since: bool) -> bool | None:
    if vm_states == frozenset((states.DELETED,)):
        if not call.context.is_admin:
            raise Forbidden("Only administrators may list deleted instances")
        return True
    if given is not None:
        return s.lenient(given)
    return None if since else False


def _metadata(given: str | None) -> dict[str, str]:
    if not given:
        return {}
    try:
        found = json.loads(given)
        items = {k: v for part in (found if isinstance(found, list) else [found]) for k, v in part.items()}
    except (ValueError, AttributeError):
        raise BadRequest("Invalid filter metadata") from None
    return {str(k): str(v) for k, v in items.items()}


def _tags(call: Call) -> dict[str, tuple[str, ...]]:
    if not call.at_least(2, 26):
        return {}
    names = {"tags": "tags", "tags-any": "tags_any", "not-tags": "not_tags", "not-tags-any": "not_tags_any"}
    return {
        field: tuple(part for part in (call.query.one(name) or "").split(",") if part) for name, field in names.items()
    }


def sort(call: Call) -> list[tuple[str, str]]:
    """Columns and directions; newest first when nothing is asked for. Raises `Forbidden` for keys that tell about hosts."""
    pairs = s.sorting(call, ("created_at", "desc"))
    if not call.context.is_admin and any(key in {"host", "node"} for key, _ in pairs):
        raise Forbidden("Only administrators can sort servers by host or node")
    found = [(SORT_KEYS[key], way) for key, way in pairs if key in SORT_KEYS]
    if not found:
        found = [("created_at", "desc")]
    if "id" not in dict(found):
        found.append(("id", found[-1][1]))
    return found
