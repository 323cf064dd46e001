"""The OpenAPI 3.1 document of a service, from its declared operations.

Served at `/<prefix>/openapi.json` without a token: it says what upstream's API reference says, and nothing about this
installation. Bodies are those of the newest microversion; OpenAPI knows one operation for each path and method, so
actions and operations that changed with a microversion are alternatives of one, told apart by `x-openstack`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pileus.kernel.web.microversions import Version, show
from pileus.kernel.web.operations import Operation, Operations

if TYPE_CHECKING:
    from pileus.kernel.room import Room
    from pileus.kernel.web import Call

_PARAMETER = re.compile(r"\{([^}:]+)(?::[^}]+)?\}")
_LAST = (9999, 9999)
_TEXT = {"type": "string"}
_FLAT = {"type": "object", "properties": {"code": {"type": "integer"}, "message": _TEXT}, "required": ["message"]}
_ERRORS: dict[str, dict[str, Any]] = {
    "identity": {"type": "object", "properties": {"error": _FLAT}, "required": ["error"]},
    "compute": {"type": "object", "additionalProperties": _FLAT, "minProperties": 1},
    "volume": {"type": "object", "additionalProperties": _FLAT, "minProperties": 1},
    "network": {
        "type": "object",
        "properties": {
            "NeutronError": {"type": "object", "properties": dict.fromkeys(("type", "message", "detail"), _TEXT)}
        },
    },
    "placement": {
        "type": "object",
        "properties": {"errors": {"type": "array", "items": {"type": "object", "properties": {"detail": _TEXT}}}},
    },
}
"""The shape of error bodies by the style of a room; image answers with a page of HTML."""


def operations(room: Room) -> Operations:
    """The operation that serves the document of a room."""
    declared = Operations()
    made: list[dict[str, Any]] = []

    @declared("GET", "/openapi.json", public="it describes the API and holds no secret", root=True)
    def show_description(_call: Call) -> dict[str, Any]:
        """Describe this API in OpenAPI 3.1."""
        if not made:
            made.append(document(room, room.operations()))
        return made[0]

    return declared


def document(room: Room, declared: Iterable[Operation]) -> dict[str, Any]:
    """The whole document; paths are below the folder where it is served itself."""
    paths: dict[str, dict[str, list[tuple[str, Operation]]]] = {}
    for operation in declared:
        for path in (operation.path, *operation.aliases):
            full = (path if operation.root else room.base + path) or "/"
            shape = _PARAMETER.sub("{}", full)
            paths.setdefault(shape, {}).setdefault(operation.method, []).append((full, operation))
    described: dict[str, Any] = {}
    for by_method in paths.values():
        template = _PARAMETER.sub(r"{\1}", next(iter(by_method.values()))[0][0])
        described[template] = {
            method.lower(): _describe(room, template, [operation for _, operation in found])
            for method, found in by_method.items()
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{room.service_name} ({room.service_type})", "version": _version(room)},
        "servers": [{"url": "."}],
        "security": [{"token": []}],
        "paths": dict(sorted(described.items())),
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "responses": {"Error": {"description": "What was wrong, in a sentence.", "content": _error_content(room)}},
        },
    }


def _describe(room: Room, template: str, found: Sequence[Operation]) -> dict[str, Any]:
    """One path and method: the newest of its operations, or all its actions."""
    newest = max(found, key=lambda operation: operation.last)
    actions = sorted({operation.action for operation in found if operation.action is not None})
    described: dict[str, Any] = {
        "operationId": _identifier(newest.method, template),
        "tags": [newest.handler.__module__.rpartition(".")[2]],
        "summary": f"Do one of: {', '.join(actions)}" if actions else newest.summary,
        "parameters": [*_path_parameters(template), *_query_parameters(newest), *_version_parameters(room, newest)],
        "responses": {**_responses(found), "default": {"$ref": "#/components/responses/Error"}},
        "x-openstack": [_facts(operation) for operation in found],
    }
    if newest.rule is None:
        described["security"] = []
    if body := _request_body(found, newest):
        described["requestBody"] = body
    return described


def _facts(operation: Operation) -> dict[str, Any]:
    """What OpenAPI has no word for: versions, the action, the policy rule."""
    facts: dict[str, Any] = {"summary": operation.summary, "status": operation.status}
    if operation.first > (0, 0):
        facts["min-version"] = show(operation.first)
    if operation.last < _LAST:
        facts["max-version"] = show(operation.last)
    if operation.action is not None:
        facts["action"] = operation.action
    facts |= {"policy": operation.rule} if operation.rule is not None else {"public": operation.public}
    changed = [show(version) for version, _ in operation.bodies if version > (0, 0)]
    return {**facts, "body-changed-in": sorted(changed, key=_as_version)} if changed else facts


def _as_version(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _path_parameters(template: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in _PARAMETER.findall(template)]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    """From the newest query schema, in which each value is a list of what came under its key."""
    validator = operation.query_for(_LAST)
    properties: Mapping[str, Any] = (validator.schema if validator else {}).get("properties", {})
    found = []
    for name, schema in properties.items():
        single = schema.get("items", schema) if isinstance(schema, dict) else {}
        found.append({"name": name, "in": "query", "schema": single if isinstance(single, dict) else {}})
    return found


def _version_parameters(room: Room, operation: Operation) -> list[dict[str, Any]]:
    versions = room.microversions
    if versions is None or operation.rule is None:
        return []
    text = f"The microversion, from {show(versions.min)} to {show(versions.max)}, as in `{versions.service} {show(versions.max)}`."
    return [{"name": versions.header, "in": "header", "description": text, "schema": _TEXT}]


def _responses(found: Sequence[Operation]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for operation in found:
        described: dict[str, Any] = {"description": operation.summary or "Done."}
        if operation.response is not None:
            described["content"] = {"application/json": {"schema": operation.response}}
        for status in operation.statuses:
            responses.setdefault(str(status), described)
    return responses


def _request_body(found: Sequence[Operation], newest: Operation) -> dict[str, Any] | None:
    if newest.raw:
        return {"content": {"application/octet-stream": {"schema": {}}}}
    if newest.action is None:
        validator = newest.body_for(_LAST)
        return _json_body(validator.schema, newest.accepts) if validator else None
    alternatives = []
    for operation in found:
        validator = operation.body_for(_LAST)
        schema = validator.schema if validator else {"type": "object", "required": [operation.action]}
        if schema not in alternatives:
            alternatives.append(schema)
    return _json_body({"oneOf": alternatives}, ())


def _json_body(schema: dict[str, Any], accepts: Sequence[str]) -> dict[str, Any]:
    kinds = [*accepts, "application/json"] if accepts else ["application/json"]
    return {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}


def _error_content(room: Room) -> dict[str, Any]:
    if room.fault not in _ERRORS:
        return {"text/html": {"schema": _TEXT}}
    return {"application/json": {"schema": _ERRORS[room.fault]}}


def _version(room: Room) -> str:
    return show(room.microversions.max) if room.microversions else room.base.strip("/").lstrip("v") or "1"


def _identifier(method: str, template: str) -> str:
    return method.lower() + re.sub(r"\W+", "_", template.replace("/", "_")).rstrip("_")
