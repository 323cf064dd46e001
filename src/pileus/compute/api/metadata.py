"""The metadata of guests: /metadata, for the proxies of the network service.

No token comes with these requests: the proxy says which server asks, and signs that with the secret of the installation.
The proxies of nodes, which have no such secret, ask below /nodes/metadata with the token of their node.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from pileus.compute.logic import guest_identity
from pileus.compute.logic import metadata as logic
from pileus.compute.store import servers as store
from pileus.kernel.errors import NotFound
from pileus.kernel.web import Call, Operations, Reply

operations = Operations()

_NODE = "pileus:node_metadata"
_PUBLIC = "guests have no tokens; the proxy's signature names the server"
_SINCE = {
    "vendor_data.json": "2013-10-17",
    "network_data.json": "2015-10-15",
    "vendor_data2.json": "2016-10-06",
}
_META_SINCE = {
    "random_seed": "2013-04-04",
    "project_id": "2015-10-15",
    "devices": "2016-06-30",
    "dedicated_cpus": "2020-10-14",
}


@operations("GET", "/metadata", root=True, public=_PUBLIC)
def root(call: Call) -> Reply:
    """List the versions of the metadata"""
    return _answer(call, guest_identity.server_that_asks(call.service, call.headers), [])


@operations("GET", "/metadata/{path:path}", root=True, public=_PUBLIC)
def content(call: Call) -> Reply:
    """Show metadata of the server that asks"""
    return _answer(call, guest_identity.server_that_asks(call.service, call.headers), _parts(call))


@operations("GET", "/nodes/metadata", root=True, rule=_NODE)
def root_for_node(call: Call) -> Reply:
    """List the versions of the metadata, for a node's guest"""
    return _answer(call, guest_identity.server_named(call.service, call.headers), [])


@operations("GET", "/nodes/metadata/{path:path}", root=True, rule=_NODE)
def content_for_node(call: Call) -> Reply:
    """Show metadata of a node's guest"""
    return _answer(call, guest_identity.server_named(call.service, call.headers), _parts(call))


def _parts(call: Call) -> list[str]:
    return [part for part in call.params["path"].split("/") if part]


def _answer(call: Call, server: dict[str, Any], path: list[str]) -> Reply:
    if not path:
        return _text("\n".join(logic.EC2_VERSIONS))
    if path[0] == "openstack":
        return _openstack(call, server, path[1:])
    if path[0] not in logic.EC2_VERSIONS:
        raise NotFound("There is no such metadata.")
    return _ec2(call, server, path[1:])


def _text(text: str) -> Reply:
    return Reply(text, content_type="text/plain; charset=UTF-8")


def _json(value: Any) -> Reply:
    return Reply(orjson.dumps(value), content_type="application/json")


def _user_data(server: Mapping[str, Any]) -> bytes | None:
    return base64.b64decode(server["user_data"]) if server["user_data"] else None


def _openstack(call: Call, server: dict[str, Any], path: list[str]) -> Reply:
    if not path:
        return _text("\n".join(logic.OPENSTACK_VERSIONS))
    version, rest = path[0], path[1:]
    if version not in logic.OPENSTACK_VERSIONS:
        raise NotFound("There is no such version of the metadata.")
    names = [
        name for name in ("vendor_data.json", "network_data.json", "vendor_data2.json") if _has(version, _SINCE[name])
    ]
    if not rest:
        mine = ["user_data"] if server["user_data"] else []
        return _text("\n".join(["meta_data.json", "password", *mine, *names]))
    name = rest[0]
    if len(rest) == 1 and name == "meta_data.json":
        return _json(_meta_data(call, server, version))
    if len(rest) == 1 and name == "user_data" and server["user_data"]:
        return Reply(_user_data(server), content_type="application/octet-stream")
    if len(rest) == 1 and name == "password":
        return _text("")
    if len(rest) == 1 and name in names:
        if name == "network_data.json":
            return _json(logic.network_data(server["network_info"] or []))
        return _json(dict(call.service.options.vendor_data) if name == "vendor_data.json" else {})
    raise NotFound("There is no such metadata.")


def _has(version: str, since: str) -> bool:
    return version == "latest" or version >= since


def _meta_data(call: Call, server: dict[str, Any], version: str) -> dict[str, Any]:
    with call.service.db.read() as conn:
        items = store.metadata_of(conn, server["id"])
        ports = store.ports_of(conn, server["id"])
    found = logic.meta_data(call.service.options, server, items, ports)
    return {key: value for key, value in found.items() if _has(version, _META_SINCE.get(key, "2012-08-10"))}


def _ec2(call: Call, server: dict[str, Any], path: list[str]) -> Reply:
    tree: dict[str, Any] = {"meta-data": logic.ec2_data(call.service.options, server)}
    user_data = _user_data(server)
    if user_data is not None:
        tree["user-data"] = user_data
    found: Any = tree
    for part in path:
        if not isinstance(found, dict) or part not in found or part == "_name":
            raise NotFound("There is no such metadata.")
        found = found[part]
    if isinstance(found, bytes):
        return Reply(found, content_type="application/octet-stream")
    return _text(_listing(found) if isinstance(found, dict) else str(found))


def _listing(tree: Mapping[str, Any]) -> str:
    """The names below a place: those that have more below them end with a slash, or have a name of their own."""
    lines = []
    for key in sorted(tree):
        value = tree[key]
        if key == "_name":
            continue
        if isinstance(value, dict):
            lines.append(value.get("_name", f"{key}/"))
        else:
            lines.append(key)
    return "\n".join(lines)
