"""Who may call what: every declared operation, by every persona."""

from __future__ import annotations

import re

import pytest

from pileus.kernel.testing import PERSONAS, SYSTEM_ADMIN
from pileus.placement.room import ROOM
from tests.api.placement.world import new

OPERATIONS = [op for op in ROOM.operations() if op.rule is not None]
PRIVILEGED = {"admin", "service"}


def call(placement, operation, who):
    path = re.sub(r"\{[^}]+\}", new(), operation.path)
    if operation.path == "/usages":
        path += f"?project_id={PERSONAS['member'].project_id}"
    version = f"{min(operation.last, (1, 39))[0]}.{min(operation.last, (1, 39))[1]}"
    if operation.path == "/allocation_candidates":
        path += "?resources=VCPU:1"
    return placement(operation.method, path, v=version, as_=who)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.method} {op.path} {op.first[1]}")
def test_operations_are_for_admins_and_services(placement, operation):
    for name, who in PERSONAS.items():
        status = call(placement, operation, who).status
        if name == "nobody":
            assert status == 401, name
        elif operation.rule == "placement:reshaper:reshape":
            assert (status != 403) == (name == "service"), name
        elif operation.rule == "placement:usages":
            assert (status == 200) == (name != "other"), name
        else:
            assert (status != 403) == (name in PRIVILEGED), (name, status)
        assert status < 500


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.method} {op.path} {op.first[1]}")
def test_a_token_for_the_system_opens_nothing(placement, operation):
    assert call(placement, operation, SYSTEM_ADMIN).status == 403


def test_a_refusal_names_the_rule(placement):
    refused = placement("GET", "/resource_providers", as_=PERSONAS["member"], ok=403)
    assert "placement:resource_providers:list" in refused.json["errors"][0]["detail"]


def test_every_operation_of_the_reference_is_served():
    """Upstream's published operations are the target list."""
    from tests.sandbox import TOP

    listed = (TOP / "tests/conformance/operations/placement.txt").read_text().splitlines()
    wanted = {tuple(re.sub(r"\{[^}]+\}", "{}", line).split()[:2]) for line in listed if line and not line.startswith("#")}
    served = {(op.method, re.sub(r"\{[^}]+\}", "{}", op.path)) for op in ROOM.operations()}
    assert wanted <= served
