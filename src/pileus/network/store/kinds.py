"""The resources of the service: table, attributes that can be filtered and sorted by, who sees which rows, how rows become dictionaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.network import errors
from pileus.network.store import render
from pileus.network.store import tables as t

Condition = sa.ColumnElement[bool]
Render = Callable[[sa.Connection, Sequence[Any], str | None], list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Sight:
    """One way in which rows become visible: when policy allows a target with `key` set so, the rows of `condition(project_id)` are.

    `key` gets the caller's project, or True where `key` names a flag.
    """

    key: str
    condition: Callable[[str], Condition]
    flag: bool = False


@dataclasses.dataclass(frozen=True)
class Kind:
    """One resource. `columns`: attribute to column; `special`: filters that are more than a column."""

    name: str
    plural: str
    table: sa.Table
    render: Render
    missing: type[errors.Missing]
    columns: Mapping[str, sa.Column[Any]]
    special: Mapping[str, Callable[[list[str], str | None], Condition]] = dataclasses.field(default_factory=dict)
    sights: tuple[Sight, ...] = ()
    tagged: bool = True
    revised: bool = True

    @property
    def rule(self) -> str:
        return f"get_{self.name}"


def _columns(table: sa.Table, names: str, **others: sa.Column[Any]) -> dict[str, sa.Column[Any]]:
    columns = {name: table.c[name] for name in names.split()}
    columns.update(others)
    columns["id"] = table.c.id
    columns["project_id"] = columns["tenant_id"] = table.c.project_id
    return columns


_STANDARD = "name description revision_number created_at updated_at"


def shared_networks(project_id: str) -> sa.Select[Any]:
    """Ids of networks shared with exactly this project."""
    table = t.rbac_policies
    return sa.select(table.c.object_id).where(table.c.target_project == project_id, table.c.action == "access_as_shared")


def external_networks(project_id: str) -> sa.Select[Any]:
    """Ids of networks that exactly this project may use as external."""
    table = t.rbac_policies
    return sa.select(table.c.object_id).where(table.c.target_project == project_id, table.c.action == "access_as_external")


def _networks_of(project_id: str) -> sa.Select[Any]:
    return sa.select(t.networks.c.id).where(t.networks.c.project_id == project_id)


def _all_shared(project_id: str) -> sa.Select[Any]:
    return sa.select(t.networks.c.id).where(sa.or_(t.networks.c.shared, t.networks.c.id.in_(shared_networks(project_id))))


def _flag(column: sa.ColumnElement[bool]) -> Callable[[list[str], str | None], Condition]:
    def condition(values: list[str], _viewer: str | None) -> Condition:
        return sa.or_(*[column if value.lower() in {"true", "1"} else sa.not_(column) for value in values])

    return condition


def _shared_filter(values: list[str], viewer: str | None) -> Condition:
    shared: Condition = t.networks.c.shared
    if viewer:
        shared = sa.or_(shared, t.networks.c.id.in_(shared_networks(viewer)))
    return _flag(shared)(values, viewer)


def _fixed_ips(values: list[str], _viewer: str | None) -> Condition:
    """`fixed_ips=ip_address=A`, `subnet_id=B`, `ip_address_substr=C`, `ip_address=A,subnet_id=B`: kinds are and-ed, values or-ed."""
    wanted: dict[str, list[str]] = {}
    for value in values:
        for part in value.split(","):
            key, _, text = part.partition("=")
            wanted.setdefault(key, []).append(text)
    table = t.allocations
    query = sa.select(table.c.port_id)
    for key, texts in wanted.items():
        if key == "ip_address_substr":
            query = query.where(sa.or_(*[table.c.ip_address.contains(text, autoescape=True) for text in texts]))
        elif key in {"ip_address", "subnet_id"}:
            query = query.where(table.c[key].in_(texts))
        else:
            raise errors.InvalidInput(f"'{key}' is not a field of fixed_ips")
    return t.ports.c.id.in_(query)


def _groups_filter(values: list[str], _viewer: str | None) -> Condition:
    table = t.port_groups
    return t.ports.c.id.in_(sa.select(table.c.port_id).where(table.c.security_group_id.in_(values)))


NETWORK = Kind(
    name="network",
    plural="networks",
    table=t.networks,
    render=render.networks,
    missing=errors.NetworkNotFound,
    columns=_columns(
        t.networks,
        _STANDARD + " admin_state_up status mtu is_default port_security_enabled",
        **{
            "router:external": t.networks.c.external,
            "provider:network_type": t.networks.c.network_type,
            "provider:physical_network": t.networks.c.physical_network,
            "provider:segmentation_id": t.networks.c.segmentation_id,
        },
    ),
    special={"shared": _shared_filter},
    sights=(
        Sight("shared", lambda project: sa.or_(t.networks.c.shared, t.networks.c.id.in_(shared_networks(project))), flag=True),
        Sight("router:external", lambda project: sa.or_(t.networks.c.external, t.networks.c.id.in_(external_networks(project))), flag=True),
    ),
)

SUBNET = Kind(
    name="subnet",
    plural="subnets",
    table=t.subnets,
    render=render.subnets,
    missing=errors.SubnetNotFound,
    columns=_columns(t.subnets, _STANDARD + " network_id subnetpool_id ip_version cidr gateway_ip enable_dhcp ipv6_ra_mode ipv6_address_mode"),
    special={
        "shared": lambda values, viewer: t.subnets.c.network_id.in_(sa.select(t.networks.c.id).where(_shared_filter(values, viewer))),
        "router:external": lambda values, viewer: t.subnets.c.network_id.in_(
            sa.select(t.networks.c.id).where(_flag(t.networks.c.external)(values, viewer))
        ),
    },
    sights=(
        Sight("shared", lambda project: t.subnets.c.network_id.in_(_all_shared(project)), flag=True),
        Sight("network:tenant_id", lambda project: t.subnets.c.network_id.in_(_networks_of(project))),
    ),
)

SUBNETPOOL = Kind(
    name="subnetpool",
    plural="subnetpools",
    table=t.subnetpools,
    render=render.subnetpools,
    missing=errors.SubnetPoolNotFound,
    columns=_columns(
        t.subnetpools, _STANDARD + " ip_version min_prefixlen default_prefixlen max_prefixlen default_quota shared is_default"
    ),
    sights=(Sight("shared", lambda _project: t.subnetpools.c.shared.is_(True), flag=True),),
)

PORT = Kind(
    name="port",
    plural="ports",
    table=t.ports,
    render=render.ports,
    missing=errors.PortNotFound,
    columns=_columns(
        t.ports,
        _STANDARD + " network_id mac_address admin_state_up status device_id device_owner port_security_enabled",
        **{
            "binding:host_id": t.ports.c.host_id,
            "binding:vnic_type": t.ports.c.vnic_type,
            "binding:vif_type": t.ports.c.vif_type,
        },
    ),
    special={"fixed_ips": _fixed_ips, "security_groups": _groups_filter},
    sights=(Sight("network:tenant_id", lambda project: t.ports.c.network_id.in_(_networks_of(project))),),
)

ROUTER = Kind(
    name="router",
    plural="routers",
    table=t.routers,
    render=render.routers,
    missing=errors.RouterNotFound,
    columns=_columns(t.routers, _STANDARD + " admin_state_up status enable_snat"),
)

FLOATINGIP = Kind(
    name="floatingip",
    plural="floatingips",
    table=t.floatingips,
    render=render.floatingips,
    missing=errors.FloatingIPNotFound,
    columns=_columns(
        t.floatingips,
        "description revision_number created_at updated_at floating_ip_address floating_network_id fixed_ip_address port_id router_id status",
    ),
)

SECURITY_GROUP = Kind(
    name="security_group",
    plural="security_groups",
    table=t.security_groups,
    render=render.security_groups,
    missing=errors.SecurityGroupNotFound,
    columns=_columns(t.security_groups, _STANDARD + " stateful"),
)

SECURITY_GROUP_RULE = Kind(
    name="security_group_rule",
    plural="security_group_rules",
    table=t.security_group_rules,
    render=render.security_group_rules,
    missing=errors.SecurityGroupRuleNotFound,
    columns=_columns(
        t.security_group_rules,
        "description revision_number created_at updated_at security_group_id direction ethertype protocol port_range_min port_range_max"
        " remote_ip_prefix remote_group_id",
        normalized_cidr=t.security_group_rules.c.remote_ip_prefix,
    ),
    sights=(
        Sight(
            "security_group:tenant_id",
            lambda project: t.security_group_rules.c.security_group_id.in_(
                sa.select(t.security_groups.c.id).where(t.security_groups.c.project_id == project)
            ),
        ),
    ),
    tagged=False,
)

RBAC_POLICY = Kind(
    name="rbac_policy",
    plural="rbac_policies",
    table=t.rbac_policies,
    render=render.rbac_policies,
    missing=errors.RbacPolicyNotFound,
    columns=_columns(t.rbac_policies, "object_type object_id action", target_tenant=t.rbac_policies.c.target_project),
    tagged=False,
    revised=False,
)

TAGGED = {kind.plural.replace("_", "-"): kind for kind in (NETWORK, SUBNET, SUBNETPOOL, PORT, ROUTER, FLOATINGIP, SECURITY_GROUP)}
"""Resources that carry tags, by their place in a path."""
