"""/v2.0/rbac-policies: which projects may use a network of another."""

from __future__ import annotations

from typing import Any

from pileus.kernel.web import Call, Operations
from pileus.network import errors
from pileus.network.api import attributes as a
from pileus.network.api import collection as c
from pileus.network.api.attributes import Attribute
from pileus.network.logic import rbac as logic
from pileus.network.store.kinds import NETWORK, RBAC_POLICY

operations = Operations()


def _target(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 255:
        raise a.Wrong(f"'{value}' is neither a project nor '*'")
    return value


ATTRIBUTES: dict[str, Attribute] = {
    "id": a.read_only(),
    "project_id": a.STANDARD["project_id"],
    "object_type": Attribute(a.one_of("network"), update=False, default=a.REQUIRED),
    "object_id": Attribute(a.uuid, update=False, default=a.REQUIRED),
    "action": Attribute(a.one_of(logic.SHARED, logic.EXTERNAL), update=False, default=a.REQUIRED),
    "target_tenant": Attribute(_target, default=a.REQUIRED),
}


@operations("GET", "/rbac-policies", rule="get_rbac_policy", late=True)
def list_rbac_policies(call: Call) -> dict[str, Any]:
    """List RBAC policies."""
    return c.list_all(call, RBAC_POLICY)


@operations("GET", "/rbac-policies/{id}", rule="get_rbac_policy", late=True)
def show_rbac_policy(call: Call) -> dict[str, Any]:
    """Show an RBAC policy."""
    return c.show(call, RBAC_POLICY, call.params["id"])


@operations("POST", "/rbac-policies", rule="create_rbac_policy", late=True, status=201)
def create_rbac_policy(call: Call) -> dict[str, Any]:
    """Let a project, or everybody ("*"), use a network."""
    items, bulk = c.parse_new(call, RBAC_POLICY, ATTRIBUTES, lambda values: {"target_is_everybody": values["target_tenant"] == "*"})
    for values in items:
        network = c.find(call, NETWORK, values["object_id"])
        if network["project_id"] != call.context.project_id and not call.context.is_admin:
            raise errors.PolicyNotAuthorized("Only the owner of a network gives others access to it.")
        if values["action"] == logic.EXTERNAL and not call.context.is_admin:
            raise errors.PolicyNotAuthorized("Only an administrator makes a network external.")
    return c.answer_new(call, RBAC_POLICY, logic.create_policies(call.service, list(items)), bulk=bulk)


@operations("PUT", "/rbac-policies/{id}", rule="update_rbac_policy", late=True)
def update_rbac_policy(call: Call) -> dict[str, Any]:
    """Give the access to another project."""

    def facts(_current: dict[str, Any]) -> dict[str, Any]:
        wanted = call.body["rbac_policy"]
        return {"target_is_everybody": isinstance(wanted, dict) and wanted.get("target_tenant") == "*"}

    current, values = c.parse_change(call, RBAC_POLICY, ATTRIBUTES, call.params["id"], facts)
    target = str(values.get("target_tenant", current["target_tenant"]))
    return c.answer(call, RBAC_POLICY, logic.update_policy(call.service, current["id"], target))


@operations("DELETE", "/rbac-policies/{id}", rule="delete_rbac_policy", late=True, status=204)
def delete_rbac_policy(call: Call) -> None:
    """Take the access away."""
    c.may_delete(call, RBAC_POLICY, call.params["id"])
    logic.delete_policy(call.service, call.params["id"])
