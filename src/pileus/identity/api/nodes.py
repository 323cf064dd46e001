"""Machines of the cloud: /v3/pileus/nodes. Pileus' own, and in no catalog: `pileus node` speaks to it."""

from __future__ import annotations

from typing import Any

from pileus.identity.logic import nodes as logic
from pileus.identity.logic.controllers import ROLE
from pileus.identity.store.listing import Record
from pileus.identity.store.nodes import ACTIVE, DRAINING
from pileus.kernel import clock
from pileus.kernel.web import Call, Operations

from .common import permit, wrapped

operations = Operations()

_PEM = {"type": "string", "minLength": 1, "maxLength": 8192}
_INVITED = "the one-time secret in the body proves who asks"


def _wrapped(name: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {**wrapped(name, properties, required=required, strict=True), "additionalProperties": False}


_TOKEN = _wrapped(
    "node_token",
    {
        "roles": {"type": "array", "items": {"enum": list(logic.ROLES)}, "minItems": 1},
        "minutes": {"type": "integer", "minimum": 1, "maximum": 10080},
        "name": {"type": "string", "pattern": logic.NAME_PATTERN},
    },
    ["roles"],
)
_JOIN = _wrapped(
    "node", {"secret": {"type": "string"}, "name": {"type": "string"}, "request": _PEM}, ["secret", "name", "request"]
)
_STATE = _wrapped("node", {"state": {"enum": [ACTIVE, DRAINING]}}, ["state"])
_RENEW = _wrapped("certificate", {"request": _PEM}, ["request"])


def _view(call: Call, node: Record) -> dict[str, Any]:
    seen_at = clock.utcnow() if node.name == call.service.host else node.seen_at  # this controller answers
    return {
        "name": node.name,
        "principal": node.principal,
        "state": node.state,
        "roles": node.roles or [ROLE],
        "certificate": {"serial": node.serial, "expires_at": clock.iso_micro(node.certificate_ends_at)} if node.serial else None,
        "joined_at": clock.iso_micro(node.joined_at),
        "seen_at": clock.iso_micro(seen_at),
    }


@operations("POST", "/pileus/node_tokens", rule="identity:create_node_token", status=201, body=_TOKEN)
def invite_node(call: Call) -> dict[str, Any]:
    """Invite one machine to join"""
    wanted = call.body["node_token"]
    made = logic.invite(call.service, wanted["roles"], wanted.get("minutes", 60), wanted.get("name"))
    token = {"url": made.url, "fingerprint": made.fingerprint, "secret": made.secret, "expires_at": made.expires_at}
    return {"node_token": token}


@operations("GET", "/pileus/authority", public="a certificate is public, and a new machine compares its fingerprint")
def show_authority(call: Call) -> dict[str, Any]:
    """Show the certificate of the installation's authority"""
    return {"authority": {"certificate": logic.authority_of(call.service).pem.decode()}}


@operations("POST", "/pileus/nodes", public=_INVITED, status=201, body=_JOIN)
def join(call: Call) -> dict[str, Any]:
    """Join as a node or controller"""
    body = call.body["node"]
    joined = logic.join(call.service, body["secret"], body["name"], body["request"])
    return {"node": _view(call, joined.node), "given": joined.given}


@operations("GET", "/pileus/nodes", rule="identity:list_nodes")
def list_nodes(call: Call) -> dict[str, Any]:
    """List the nodes"""
    return {"nodes": [_view(call, node) for node in logic.everyone(call.service)]}


@operations("GET", "/pileus/nodes/{name}", rule="identity:get_node")
def show_node(call: Call) -> dict[str, Any]:
    """Show a node"""
    return {"node": _view(call, logic.require(call.service, call.params["name"]))}


@operations("PATCH", "/pileus/nodes/{name}", rule="identity:update_node", body=_STATE)
def update_node(call: Call) -> dict[str, Any]:
    """Mark a node as draining or active"""
    return {"node": _view(call, logic.set_state(call.service, call.params["name"], call.body["node"]["state"]))}


@operations(
    "POST",
    "/pileus/nodes/{name}/certificates",
    rule="identity:create_node_certificate",
    late=True,
    status=201,
    body=_RENEW,
)
def renew(call: Call) -> dict[str, Any]:
    """Renew a node's certificate"""
    node = logic.find(call.service, call.params["name"])
    permit(call, {"target.node.user_id": node.user_id} if node is not None and node.user_id else {})
    made = logic.renew(call.service, call.params["name"], call.body["certificate"]["request"])
    return {"certificate": {"certificate": made.decode()}}


@operations("DELETE", "/pileus/nodes/{name}", rule="identity:delete_node", status=204)
def remove_node(call: Call) -> None:
    """Remove a node"""
    logic.remove(call.service, call.params["name"])
