"""Who may use networks of others. A network's `shared` and `router:external` are its entries for everybody ("*")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import insert_ignore, retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic.change import Change, changing, count, fetch, release, reserve
from pileus.network.store import render
from pileus.network.store import tables as t

SHARED, EXTERNAL = "access_as_shared", "access_as_external"
EVERYBODY = "*"
_FLAGS = {SHARED: "shared", EXTERNAL: "external"}


def follow_flags(change: Change, network_id: str, project_id: str, *, shared: bool, external: bool) -> None:
    """Make the entries for everybody agree with the network's flags."""
    for action, wanted in ((SHARED, shared), (EXTERNAL, external)):
        if wanted:
            row = _row(project_id, network_id, action, EVERYBODY)
            if insert_ignore(change.conn, t.rbac_policies, [row]):
                count(change, project_id, "rbac_policy")
        else:
            _remove(change, _entry(network_id, action, EVERYBODY))


def _row(project_id: str, network_id: str, action: str, target: str) -> dict[str, str]:
    return {
        "id": ids.new_uuid(),
        "project_id": project_id,
        "object_type": "network",
        "object_id": network_id,
        "action": action,
        "target_project": target,
    }


def _entry(network_id: str, action: str, target: str) -> sa.ColumnElement[bool]:
    table = t.rbac_policies
    return sa.and_(table.c.object_id == network_id, table.c.action == action, table.c.target_project == target)


def _remove(change: Change, condition: sa.ColumnElement[bool]) -> None:
    rows = change.conn.execute(sa.select(t.rbac_policies.c.id, t.rbac_policies.c.project_id).where(condition)).all()
    for row in rows:
        change.conn.execute(sa.delete(t.rbac_policies).where(t.rbac_policies.c.id == row.id))
        release(change, row.project_id, "rbac_policy")


def forget(change: Change, network_id: str) -> None:
    """Remove all entries of a network that goes."""
    _remove(change, t.rbac_policies.c.object_id == network_id)


def check_unused(change: Change, network: Any, target: str = EVERYBODY) -> None:
    """Raise InvalidSharedSetting while projects that would lose their access have ports or subnets in the network."""
    table = t.rbac_policies
    still = sa.select(table.c.target_project).where(table.c.object_id == network.id, table.c.action == SHARED)
    for resource in (t.ports, t.subnets):
        query = sa.select(resource.c.id).where(
            resource.c.network_id == network.id, resource.c.project_id != network.project_id, resource.c.project_id != ""
        )
        if target == EVERYBODY:
            query = query.where(resource.c.project_id.not_in(still))
        else:
            query = query.where(resource.c.project_id == target)
        if change.conn.execute(query.limit(1)).first():
            raise errors.InvalidSharedSetting(
                f"Unable to reconfigure sharing settings for network {network.name}. Multiple tenants are using it."
            )


@retried
def create_policies(service: Service, items: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give projects access to networks. Raises NetworkNotFound, DuplicateRbacPolicy, InvalidInput, OverQuota."""
    with changing(service) as change:
        made = [_create(change, values) for values in items]
        rows = {row.id: row for row in change.conn.execute(sa.select(t.rbac_policies).where(t.rbac_policies.c.id.in_(made)))}
        return render.rbac_policies(change.conn, [rows[id] for id in made])


def _create(change: Change, values: Mapping[str, Any]) -> str:
    network = fetch(change.conn, t.networks, values["object_id"], errors.NetworkNotFound, lock=True)
    reserve(change, values["project_id"], "rbac_policy")
    row = _row(values["project_id"], network.id, values["action"], values["target_tenant"])
    if not insert_ignore(change.conn, t.rbac_policies, [row]):
        raise errors.DuplicateRbacPolicy("An RBAC policy already exists with those values.")
    _set_flag(change, network.id, values["action"], values["target_tenant"], True)
    return row["id"]


def _set_flag(change: Change, network_id: str, action: str, target: str, value: bool) -> None:
    if target == EVERYBODY:
        change.conn.execute(sa.update(t.networks).where(t.networks.c.id == network_id).values({_FLAGS[action]: value}))


@retried
def update_policy(service: Service, id: str, target: str) -> dict[str, Any]:
    """Give the access to another project instead. Raises RbacPolicyNotFound, RbacPolicyInUse, DuplicateRbacPolicy."""
    with changing(service) as change:
        row = fetch(change.conn, t.rbac_policies, id, errors.RbacPolicyNotFound, lock=True)
        if target != row.target_project:
            _check_removable(change, row)
            if change.conn.execute(sa.select(t.rbac_policies.c.id).where(_entry(row.object_id, row.action, target))).first():
                raise errors.DuplicateRbacPolicy("An RBAC policy already exists with those values.")
            change.conn.execute(sa.update(t.rbac_policies).where(t.rbac_policies.c.id == id).values(target_project=target))
            _set_flag(change, row.object_id, row.action, row.target_project, False)
            _set_flag(change, row.object_id, row.action, target, True)
        return render.rbac_policies(change.conn, [fetch(change.conn, t.rbac_policies, id, errors.RbacPolicyNotFound)])[0]


@retried
def delete_policy(service: Service, id: str) -> None:
    """Take the access away. Raises RbacPolicyNotFound, RbacPolicyInUse."""
    with changing(service) as change:
        row = fetch(change.conn, t.rbac_policies, id, errors.RbacPolicyNotFound, lock=True)
        _check_removable(change, row)
        _remove(change, t.rbac_policies.c.id == id)
        _set_flag(change, row.object_id, row.action, row.target_project, False)


def _check_removable(change: Change, row: Any) -> None:
    network = fetch(change.conn, t.networks, row.object_id, errors.NetworkNotFound, lock=True)
    refused = errors.RbacPolicyInUse(
        f"RBAC policy on object {row.object_id} cannot be removed because other objects depend on it."
    )
    if row.action == SHARED:
        # The entry itself still stands; ask as if only the others gave access.
        others = sa.select(t.rbac_policies.c.target_project).where(
            t.rbac_policies.c.object_id == row.object_id, t.rbac_policies.c.action == SHARED, t.rbac_policies.c.id != row.id
        )
        if change.conn.execute(others.where(t.rbac_policies.c.target_project == EVERYBODY)).first():
            return
        try:
            check_unused(change, network, row.target_project)
        except errors.InvalidSharedSetting:
            raise refused from None
        return
    query = sa.select(t.routers.c.id).where(t.routers.c.gateway_network_id == row.object_id, t.routers.c.project_id != network.project_id)
    if row.target_project != EVERYBODY:
        query = query.where(t.routers.c.project_id == row.target_project)
    if change.conn.execute(query.limit(1)).first():
        raise refused
