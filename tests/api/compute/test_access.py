"""Who may call what: every declared operation, by every persona."""

from __future__ import annotations

import re

import pytest

from pileus.compute import policy
from pileus.compute.api.versions import MICROVERSIONS
from pileus.compute.room import ROOM
from pileus.kernel.testing import ADMIN, MANAGER, MEMBER, OTHER, PERSONAS, PROJECT, READER, SERVICE
from tests.api.compute.world import IMAGE, World, new

OPERATIONS = [op for op in ROOM.operations() if op.rule is not None]
PUBLIC = [op for op in ROOM.operations() if op.rule is None]

BODIES = {
    "reboot": {"type": "HARD"},
    "lock": None,
    "os-resetState": {"state": "error"},
    "os-getConsoleOutput": {},
    "addSecurityGroup": {"name": "web"},
    "removeSecurityGroup": {"name": "web"},
    "rebuild": {"imageRef": IMAGE},
    "evacuate": {},
    "resize": {"flavorRef": "small"},
    "os-migrateLive": {"host": None, "block_migration": "auto"},
}
ROUTES = {
    ("PUT", "/servers/{server_id}"): {"server": {"name": "x"}},
    ("POST", "/servers/{server_id}/metadata"): {"metadata": {"a": "b"}},
    ("PUT", "/servers/{server_id}/metadata"): {"metadata": {"a": "b"}},
    ("PUT", "/servers/{server_id}/metadata/{key}"): {"meta": {"key": "b"}},
    ("PUT", "/servers/{server_id}/tags"): {"tags": ["a"]},
    ("POST", "/servers/{server_id}/os-interface"): {"interfaceAttachment": {}},
    ("POST", "/servers/{server_id}/os-volume_attachments"): {"volumeAttachment": {"volumeId": new()}},
    ("POST", "/servers/{server_id}/remote-consoles"): {"remote_console": {"protocol": "vnc", "type": "novnc"}},
    ("POST", "/os-keypairs"): {"keypair": {"name": "k", "public_key": "wrong"}},
    ("PUT", "/os-quota-sets/{project_id}"): {"quota_set": {}},
}
ALLOWED = {
    policy.ANY: {"admin", "manager", "member", "reader", "other", "service"},
    policy.READER: {"admin", "manager", "member", "reader"},
    policy.MEMBER: {"admin", "manager", "member"},
    policy.MANAGER: {"admin", "manager"},
    policy.ADMIN: {"admin"},
    policy.OWNER: {"admin", "manager", "member", "reader", "other", "service"},
    "rule:service_or_admin": {"admin", "service"},
    policy.NODE: set(),
}
PEOPLE = {"admin": ADMIN, "manager": MANAGER, "member": MEMBER, "reader": READER, "other": OTHER, "service": SERVICE}


@pytest.fixture(scope="module")
def shared():
    made = World(quota_instances=-1, quota_cores=-1, quota_ram=-1)
    made.flavor()
    yield made
    made.close()


def ask(world, operation, who, server_id):
    names = {"server_id": server_id, "project_id": PROJECT, "key": "key"}
    path = re.sub(r"\{([^}]+)\}", lambda m: names.get(m.group(1), new()), operation.path)
    body = ROUTES.get((operation.method, operation.path))
    if operation.action:
        body = {operation.action: BODIES.get(operation.action)}
    if operation.root:
        return world.client.request(operation.method, path, as_=who)
    version = min(operation.last, MICROVERSIONS.max)
    return world(operation.method, path, body, as_=who, v=f"{version[0]}.{version[1]}")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.method} {op.path} {op.action or ''} {op.first[1]}")
def test_each_operation_is_for_those_its_rule_names(shared, operation):
    allowed = ALLOWED[policy.RULES[operation.rule]]
    of_server = "{server_id}" in operation.path
    of_project = of_server or "{project_id}" in operation.path
    for name in ("nobody", "reader", "other", "service", "member", "manager", "admin"):
        server_id = shared.boot(networks="none") if of_server and name in allowed else getattr(shared, "last", None) or shared.boot(networks="none")
        shared.last = None if name in allowed else server_id
        reply = ask(shared, operation, PERSONAS.get(name), server_id)
        assert reply.status < 500 or reply.status == 501, (name, reply.text)
        if name == "nobody":
            assert reply.status == 401
        elif of_server and name == "other":
            assert reply.status == 404, (name, reply.text)
        elif "{group_id}" in operation.path and "server-groups" in operation.path:
            assert reply.status in {403, 404}, (name, reply.text)  # the group is looked up first
        elif of_project and name in {"other", "service"} and policy.RULES[operation.rule] != policy.ANY:
            assert reply.status in {403, 404}, (name, reply.text)
        elif name in {"other", "service"} and policy.RULES[operation.rule] in {policy.READER, policy.MEMBER}:
            assert (reply.status == 403) == (name == "service"), (name, reply.text)
        else:
            assert (reply.status == 403) == (name not in allowed), (name, reply.status, reply.text)
        shared.settle()
        if name in allowed and of_server:
            shared("DELETE", f"/servers/{server_id}", as_=ADMIN)
            shared.settle()


def test_public_operations_are_versions_and_guests_metadata():
    assert {op.path for op in PUBLIC} == {"/", "/v2.1", "/versions/{version_id}", "/metadata", "/metadata/{path:path}"}


def test_a_refusal_names_the_rule(shared):
    refused = shared("GET", "/os-hypervisors", as_=MEMBER, ok=403)
    assert refused.json == {"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:os-hypervisors:list to be performed."}}


def test_every_operation_has_a_rule_that_exists():
    assert {op.rule for op in OPERATIONS} <= set(policy.RULES)
