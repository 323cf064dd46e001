"""Who may call what: every declared operation, by every persona, on resources of the member's project."""

from __future__ import annotations

import re

import pytest

from pileus.kernel.testing import ADMIN, PERSONAS
from pileus.network.room import ROOM
from tests.api.network.world import Network, new
from tests.sandbox import TOP

# What deletes inside a resource has nothing to hold it back: its access is in the stories.
OPERATIONS = [
    op for op in ROOM.operations() if op.rule is not None and (op.method != "DELETE" or re.fullmatch(r"/[^/]+/\{[^}]+\}", op.path))
]
OWN = {"networks", "subnets", "subnetpools", "ports", "routers", "floatingips", "security-groups", "security-group-rules", "rbac-policies"}
FOR_ALL = {"extensions", "availability_zones", "service-providers"}
FOR_SERVICES = {"networks", "subnets", "ports", "floatingips", "security-groups"}


class World:
    """One resource of each kind; the bodies are wrong, so that who is let in gets 400 or 404 for the body and changes nothing."""

    def __init__(self):
        net = self.net = Network()
        outside, _ = net.outside()
        network, subnet = net.net()
        router = net.routed(subnet, outside)
        guest = net.guest(network)
        group = net.make("security-groups", name="web")
        self.ids = {
            "networks": network["id"],
            "subnets": subnet["id"],
            "ports": guest["id"],
            "subnetpools": net.make("subnetpools", name="pool", prefixes=["10.0.0.0/8"])["id"],
            "routers": router["id"],
            "floatingips": net.make("floatingips", floating_network_id=outside["id"])["id"],
            "security-groups": group["id"],
            "security-group-rules": group["security_group_rules"][0]["id"],
            "rbac-policies": net.make(
                "rbac-policies", object_type="network", object_id=network["id"], action="access_as_shared", target_tenant="f" * 32
            )["id"],
            "agents": net.all("/agents", as_=ADMIN)[0]["id"],
            "quotas": PERSONAS["member"].project_id,
            "network-ip-availabilities": network["id"],
            "extensions": "router",
        }

    def status(self, operation, who):
        collection = operation.path.strip("/").partition("/")[0]
        path = re.sub(r"\{[^}]+\}", self.ids.get(collection, new()), operation.path, count=1)
        path = re.sub(r"\{[^}]+\}", new(), path)
        body = {"nonsense": {}} if operation.method in {"POST", "PUT"} else None
        headers = {"If-Match": "revision_number=99999"} if operation.method == "DELETE" else {}
        return self.net(operation.method, path, body, as_=who, headers=headers).status


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.net.client.close()


def expected(operation, who):
    """Whether the persona is let in; for those who are not: 401, 403 or 404."""
    collection, _, rest = operation.path.strip("/").partition("/")
    reads = operation.method == "GET"
    if who == "nobody":
        return {401}
    if collection in FOR_ALL and reads:
        return "in"
    if collection == "agents" and "/" not in rest:
        return "in" if who == "admin" or not rest else {404}
    agents_of = rest.endswith(("dhcp-agents", "l3-agents"))
    if collection not in OWN or agents_of:
        if collection == "quotas" and reads and rest:
            return "in" if who in {"admin", "member", "manager", "reader"} else {403}
        return "in" if who == "admin" else {403}
    if not rest and reads:
        return "in"
    if not rest:
        return "in"  # the body is read first: nobody creates with a wrong one
    sees = who in {"admin", "member", "manager", "reader"} or (who == "service" and collection in FOR_SERVICES)
    if not sees:
        return {404}
    if reads or (who == "reader" and operation.method == "PUT" and not rest.partition("/")[2]):
        return "in"  # an update's body is read before it is asked who changes
    if "/bindings" in rest:
        return "in" if who == "service" else {403}
    may = who in {"admin", "member", "manager"} or (who == "service" and collection == "ports")
    if who == "service" and operation.method == "PUT" and not rest.partition("/")[2]:
        return "in"
    return "in" if may else {403}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.method} {op.path}")
def test_operations_let_in_whom_they_shall(world, operation):
    if operation.method == "DELETE" and operation.path.startswith(("/agents", "/quotas", "/rbac-policies", "/default")):
        order = [name for name in PERSONAS if name != "admin"]
        order = [name for name in order if expected(operation, name) != "in"]
    else:
        order = list(PERSONAS)
    for name in order:
        status = world.status(operation, PERSONAS[name])
        wanted = expected(operation, name)
        assert status < 500, name
        if wanted == "in":
            assert status not in {401, 403}, (name, status)
        else:
            assert status in wanted, (name, status)


def test_creating_asks_for_membership(net):
    network, _ = net.net()
    bodies = {
        "/networks": {"network": {}},
        "/routers": {"router": {}},
        "/ports": {"port": {"network_id": network["id"]}},
        "/subnets": {"subnet": {"network_id": network["id"], "cidr": "10.3.0.0/24", "ip_version": 4}},
        "/security-groups": {"security_group": {"name": "g"}},
    }
    for path, body in bodies.items():
        assert net.refused("POST", path, body, as_=PERSONAS["reader"])[0] == 403, path
        net("POST", path, body, as_=PERSONAS["manager"], ok=201)


def test_changing_asks_for_membership(net):
    network, subnet = net.net()
    port = net.make("ports", network_id=network["id"])
    group = net.make("security-groups", name="g")
    made = {"networks": network, "subnets": subnet, "ports": port, "routers": net.make("routers"), "security-groups": group}
    for collection, body in made.items():
        name = collection.replace("-", "_")[:-1]
        for method, content in (("PUT", {name: {"name": "x"}}), ("DELETE", None)):
            assert net.refused(method, f"/{collection}/{body['id']}", content, as_=PERSONAS["reader"]) == (403, "PolicyNotAuthorized")


def test_projects_are_not_chosen_by_members(net):
    body = {"network": {"project_id": PERSONAS["other"].project_id}}
    assert net.refused("POST", "/networks", body) == (400, "HTTPBadRequest")
    assert net("POST", "/networks", body, as_=ADMIN, ok=201).json["network"]["tenant_id"] == PERSONAS["other"].project_id
    body["network"]["tenant_id"] = "another"
    assert net.refused("POST", "/networks", body, as_=ADMIN) == (400, "HTTPBadRequest")


def test_what_is_served_is_in_the_reference():
    """Upstream's published operations are the target list: nothing else is served but JSON forms of it."""
    listed = (TOP / "tests/conformance/operations/neutron.txt").read_text().splitlines()
    wanted = {tuple(re.sub(r"\{[^}]+\}", "{}", line).split()[:2]) for line in listed if line and not line.startswith("#")}
    served = {(op.method, re.sub(r"\{[^}]+\}", "{}", ("" if op.root else "/v2.0") + op.path)) for op in ROOM.operations()}
    assert served <= wanted
