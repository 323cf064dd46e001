"""The network service in a test: an empty one with one living host, and short ways to make things."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import sqlite3
import tempfile
import uuid
from typing import Any

from pileus.kernel.testing import ADMIN, MEMBER, SERVICE, Response, make_client
from pileus.network.room import ROOM

AGENTS = [
    {"agent_type": "Linux bridge agent", "binary": "neutron-linuxbridge-agent", "configurations": {}},
    {"agent_type": "DHCP agent", "binary": "neutron-dhcp-agent", "configurations": {}},
    {"agent_type": "L3 agent", "binary": "neutron-l3-agent", "configurations": {}},
]
Body = dict[str, Any]


def new() -> str:
    return str(uuid.uuid4())


@functools.cache
def _empty() -> bytes:
    """The file of an empty database: making tables one by one costs more than most tests."""
    client = make_client(ROOM)
    file = pathlib.Path(client.service.db.url.database)
    client.close()
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
    return file.read_bytes()


def _home() -> pathlib.Path:
    home = pathlib.Path(tempfile.mkdtemp(prefix="pileus-test-"))
    (home / "databases").mkdir()
    (home / "databases/network.sqlite").write_bytes(_empty())
    return home


class Network:
    """Calls answer the resource itself; `refused` answers (status, type)."""

    def __init__(self, hosts: tuple[str, ...] = ("host1",), **options: Any) -> None:
        db_url, clients, bus = (options.pop(name, None) for name in ("db_url", "clients", "bus"))
        home = None if db_url else _home()
        self.client = make_client(ROOM, options=options, db_url=db_url, clients=clients, home=home, bus=bus)
        self.service = self.client.service
        for host in hosts:
            self.beat(host)

    def beat(self, host: str, agents: list[Body] = AGENTS, **more: Any) -> None:
        self.client.call("network.heartbeat", {"host": host, "agents": agents, **more})

    def __call__(self, method: str, path: str, json: Any = None, *, as_: Any = MEMBER, ok: int | None = None, **more: Any) -> Response:
        response = self.client.request(method, "/v2.0" + path, json=json, as_=as_, **more)
        assert ok is None or response.status == ok, f"{method} {path}: {response.status} {response.text}"
        return response

    def refused(self, method: str, path: str, json: Any = None, *, as_: Any = MEMBER, **more: Any) -> tuple[int, str]:
        response = self(method, path, json, as_=as_, **more)
        assert response.status >= 400, response.text
        error = response.json["NeutronError"]
        assert set(error) == {"type", "message", "detail"}
        assert error["message"]
        return response.status, error["type"]

    def make(self, collection: str, as_: Any = MEMBER, **body: Any) -> Body:
        name = {"security-groups": "security_group", "security-group-rules": "security_group_rule", "rbac-policies": "rbac_policy"}.get(
            collection, collection[:-1]
        )
        body = {key.replace("__", ":"): value for key, value in body.items()}
        return self("POST", f"/{collection}", {name: body}, as_=as_, ok=201).json[name]

    def get(self, collection: str, id: str, as_: Any = MEMBER) -> Body:
        (body,) = self("GET", f"/{collection}/{id}", as_=as_, ok=200).json.values()
        return body

    def all(self, path: str, as_: Any = MEMBER) -> list[Body]:
        body = self("GET", path, as_=as_, ok=200).json
        return next(value for key, value in body.items() if not key.endswith("_links"))

    def change(self, collection: str, id: str, as_: Any = MEMBER, **body: Any) -> Body:
        name = {"security-groups": "security_group"}.get(collection, collection[:-1])
        body = {key.replace("__", ":"): value for key, value in body.items()}
        return self("PUT", f"/{collection}/{id}", {name: body}, as_=as_, ok=200).json[name]

    def delete(self, collection: str, id: str, as_: Any = MEMBER) -> None:
        self("DELETE", f"/{collection}/{id}", as_=as_, ok=204)

    # -- what many tests need ----------------------------------------------------------------------------------------

    def net(self, cidr: str = "10.0.0.0/24", as_: Any = MEMBER, **subnet: Any) -> tuple[Body, Body]:
        """A network with one subnet."""
        network = self.make("networks", as_=as_, name="net")
        return network, self.make("subnets", as_=as_, network_id=network["id"], cidr=cidr, ip_version=4, **subnet)

    def outside(self, cidr: str = "172.24.4.0/24") -> tuple[Body, Body]:
        """The external network."""
        network = self.make("networks", as_=ADMIN, name="public", router__external=True, provider__network_type="flat", provider__physical_network="public")
        subnet = self.make("subnets", as_=ADMIN, network_id=network["id"], cidr=cidr, ip_version=4, enable_dhcp=False)
        return network, subnet

    def guest(self, network: Body, host: str | None = "host1", **body: Any) -> Body:
        """A port of a server, bound to a host."""
        port = self.make("ports", network_id=network["id"], device_id=new(), device_owner="compute:nova", **body)
        return self.bind(port, host) if host else port

    def bind(self, port: Body, host: str) -> Body:
        return self.change("ports", port["id"], as_=SERVICE, binding__host_id=host)

    def routed(self, subnet: Body, outside: Body | None = None) -> Body:
        """A router with a leg in the subnet."""
        gateway = {"external_gateway_info": {"network_id": outside["id"]}} if outside else {}
        router = self.make("routers", name="router", **gateway)
        self("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]}, ok=200)
        return router

    def desired(self, host: str = "host1", since: int = 0) -> Body:
        return self.client.call("network.desired", {"host": host, "since": since})

    def since(self, version: int, host: str = "host1") -> dict[str, set[str]]:
        """Ids of what changed on a host after a version, by list; what is gone under "gone"."""
        document = self.desired(host, version)
        found = {kind: {item["id"] for item in document[kind]} for kind in ("networks", "ports", "routers", "groups")}
        gone = {id for ids in document["gone"].values() for id in ids}
        return {**{kind: ids for kind, ids in found.items() if ids}, **({"gone": gone} if gone else {})}

    def report(self, host: str = "host1", **said: Any) -> None:
        self.client.call("network.report", {"host": host, "version": self.desired(host)["version"], **said})

    def used(self, resource: str) -> int:
        return self("GET", f"/quotas/{MEMBER.project_id}/details.json", ok=200).json["quota"][resource]["used"]
