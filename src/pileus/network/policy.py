"""Policy of the network service: upstream's rule names and secure RBAC defaults.

Targets carry `project_id`, `tenant_id` and, where it applies, `network:tenant_id` (owner of the port's or subnet's network), `shared` (that network is
shared), `router:external`, `security_group:tenant_id` and `network_device` (the port's device_owner begins with "network:"). A rule named
`<action>_<resource>:<attribute>` guards the attribute: on get it hides it, on create and update it refuses a body that names it.
"""

from __future__ import annotations

ADMIN = "rule:admin_only"
SERVICE = "rule:service_api"
MEMBER = "(role:member and project_id:%(project_id)s)"
READER = "(role:reader and project_id:%(project_id)s)"
NET_OWNER_MEMBER = "(role:member and rule:network_owner)"
NET_OWNER_READER = "(role:reader and rule:network_owner)"
GROUP_OWNER_MEMBER = "(role:member and rule:sg_owner)"
GROUP_OWNER_READER = "(role:reader and rule:sg_owner)"


def _any(*rules: str) -> str:
    return " or ".join(rules)


_HELPERS = {
    "context_is_admin": "role:admin",
    "service_api": "role:service",
    "admin_only": "rule:context_is_admin",
    "owner": "tenant_id:%(tenant_id)s",
    "admin_or_owner": "rule:context_is_admin or rule:owner",
    "network_owner": "tenant_id:%(network:tenant_id)s",
    "sg_owner": "tenant_id:%(security_group:tenant_id)s",
    "regular_user": "",
    "shared": "True:%(shared)s",
    "external": "True:%(router:external)s",
    "network_device": "True:%(network_device)s",
    "default": "rule:admin_or_owner",
}


def _owned(resource: str, *, plural: str = "") -> dict[str, str]:
    """The rules of a resource that its project's members manage and its readers see."""
    return {
        f"create_{resource}": _any(ADMIN, MEMBER),
        f"get_{resource}": _any(ADMIN, READER),
        f"update_{resource}": _any(ADMIN, MEMBER),
        f"delete_{resource}": _any(ADMIN, MEMBER),
        **_tags(plural or resource + "s", resource),
    }


def _tags(plural: str, resource: str) -> dict[str, str]:
    return {
        f"get_{plural}_tags": f"rule:get_{resource}",
        f"create_{plural}_tags": f"rule:update_{resource}",
        f"update_{plural}_tags": f"rule:update_{resource}",
        f"delete_{plural}_tags": f"rule:update_{resource}",
    }


def _each(actions: str, resource: str, attributes: str, rule: str) -> dict[str, str]:
    return {f"{action}_{resource}:{name}": rule for action in actions.split() for name in attributes.split()}


_PROVIDER = "provider:network_type provider:physical_network provider:segmentation_id"

_NETWORKS = {
    **_owned("network"),
    "create_network": _any(ADMIN, MEMBER),
    "get_network": _any(ADMIN, READER, SERVICE, "rule:shared", "rule:external"),
    **_each("create update", "network", f"shared router:external is_default {_PROVIDER}", ADMIN),
    **_each("get", "network", _PROVIDER, _any(ADMIN, SERVICE)),
    **_each("create update", "network", "port_security_enabled", _any(ADMIN, MEMBER)),
}

_SUBNETS = {
    **_owned("subnet"),
    "create_subnet": _any(ADMIN, NET_OWNER_MEMBER),
    "get_subnet": _any(ADMIN, READER, NET_OWNER_READER, SERVICE, "rule:shared"),
    "update_subnet": _any(ADMIN, NET_OWNER_MEMBER, MEMBER),
    "delete_subnet": _any(ADMIN, NET_OWNER_MEMBER, MEMBER),
    **_each("create update", "subnet", "service_types", ADMIN),
}

_SUBNETPOOLS = {
    **_owned("subnetpool"),
    "get_subnetpool": _any(ADMIN, READER, "rule:shared"),
    **_each("create update", "subnetpool", "is_default", ADMIN),
    **_each("create", "subnetpool", "shared", ADMIN),
    "add_prefixes": _any(ADMIN, MEMBER),
    "remove_prefixes": _any(ADMIN, MEMBER),
}

_NET_SIDE = _any(ADMIN, SERVICE, NET_OWNER_MEMBER)

_PORTS = {
    **_owned("port"),
    "create_port": _any(ADMIN, SERVICE, MEMBER),
    "get_port": _any(ADMIN, SERVICE, NET_OWNER_READER, READER),
    "update_port": _any(ADMIN, SERVICE, MEMBER),
    "delete_port": _any(ADMIN, SERVICE, NET_OWNER_MEMBER, MEMBER),
    **_each("create update", "port", "device_owner", _any("not rule:network_device", _NET_SIDE)),
    **_each("create", "port", "mac_address", _NET_SIDE),
    **_each("update", "port", "mac_address", _any(ADMIN, SERVICE)),
    **_each("create update", "port", "fixed_ips fixed_ips:subnet_id", _any(_NET_SIDE, "rule:shared")),
    **_each("create update", "port", "fixed_ips:ip_address port_security_enabled", _NET_SIDE),
    **_each("create update", "port", "allowed_address_pairs", _any(ADMIN, NET_OWNER_MEMBER)),
    **_each("create update", "port", "binding:host_id binding:profile", _any(ADMIN, SERVICE)),
    **_each("create update", "port", "binding:vnic_type", _any(ADMIN, SERVICE, MEMBER)),
    **_each("get", "port", "binding:host_id binding:profile binding:vif_type binding:vif_details", _any(ADMIN, SERVICE)),
}

_PORT_BINDINGS = {
    "get_port_binding": _any(ADMIN, SERVICE),
    "create_port_binding": SERVICE,
    "delete_port_binding": SERVICE,
    "activate": SERVICE,
}

_ROUTERS = {
    **_owned("router"),
    "create_router:external_gateway_info": _any(ADMIN, MEMBER),
    "create_router:external_gateway_info:network_id": _any(ADMIN, MEMBER),
    "create_router:external_gateway_info:enable_snat": ADMIN,
    "create_router:external_gateway_info:external_fixed_ips": ADMIN,
    "update_router:external_gateway_info": _any(ADMIN, MEMBER),
    "update_router:external_gateway_info:network_id": _any(ADMIN, MEMBER),
    "update_router:external_gateway_info:enable_snat": ADMIN,
    "update_router:external_gateway_info:external_fixed_ips": ADMIN,
    **_each("create update", "router", "distributed ha", ADMIN),
    "add_router_interface": _any(ADMIN, MEMBER),
    "remove_router_interface": _any(ADMIN, MEMBER),
    "add_extraroutes": _any(ADMIN, MEMBER),
    "remove_extraroutes": _any(ADMIN, MEMBER),
}

_FLOATING_IPS = {
    **_owned("floatingip"),
    "get_floatingip": _any(ADMIN, READER, SERVICE),
    "create_floatingip:floating_ip_address": ADMIN,
}

_GROUPS = {
    **_owned("security_group"),
    "get_security_group": _any(ADMIN, READER, SERVICE),
    "create_security_group_rule": _any(ADMIN, MEMBER),
    "get_security_group_rule": _any(ADMIN, READER, GROUP_OWNER_READER),
    "delete_security_group_rule": _any(ADMIN, MEMBER, GROUP_OWNER_MEMBER),
}

_OTHERS = {
    "get_agent": ADMIN,
    "update_agent": ADMIN,
    "delete_agent": ADMIN,
    "create_dhcp-network": ADMIN,
    "get_dhcp-networks": ADMIN,
    "delete_dhcp-network": ADMIN,
    "create_l3-router": ADMIN,
    "get_l3-routers": ADMIN,
    "delete_l3-router": ADMIN,
    "get_dhcp-agents": ADMIN,
    "get_l3-agents": ADMIN,
    "get_availability_zone": "",
    "get_extension": "",
    "get_service_provider": "",
    "get_network_ip_availability": ADMIN,
    "get_quota": ADMIN,
    "get_own_quota": _any(ADMIN, READER),
    "update_quota": ADMIN,
    "delete_quota": ADMIN,
    "create_rbac_policy": _any(ADMIN, MEMBER),
    "create_rbac_policy:target_tenant": _any(ADMIN, "not True:%(target_is_everybody)s"),
    "get_rbac_policy": _any(ADMIN, READER),
    "update_rbac_policy": _any(ADMIN, MEMBER),
    "update_rbac_policy:target_tenant": _any(ADMIN, "not True:%(target_is_everybody)s"),
    "delete_rbac_policy": _any(ADMIN, MEMBER),
}

RULES: dict[str, str] = {
    **_HELPERS,
    **_NETWORKS,
    **_SUBNETS,
    **_SUBNETPOOLS,
    **_PORTS,
    **_PORT_BINDINGS,
    **_ROUTERS,
    **_FLOATING_IPS,
    **_GROUPS,
    **_OTHERS,
}
