"""What compute asks of the network service: which networks a server may have, its ports, and what a guest is told about them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pileus.clients.base import PeerConflict, PeerError, PeerNotFound
from pileus.compute.errors import BadRequest
from pileus.kernel import ids
from pileus.kernel.context import Context
from pileus.kernel.errors import Conflict, Forbidden, NotFound, Unavailable
from pileus.kernel.service import Service

Json = dict[str, Any]
AUTO = "auto"
NOTHING = "none"
_ATTEMPTS = 5
_CHANGED = 412


@dataclass(frozen=True, kw_only=True)
class NicRequest:
    """One network card that was asked for: a port that exists, or a network (and an address) to make one on."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None

    def stored(self) -> Json:
        return {"network_id": self.network_id, "port_id": self.port_id, "fixed_ip": self.fixed_ip, "tag": self.tag}


def list_all(service: Service, context: Context, collection: str, **filters: Any) -> list[Json]:
    """Items of a collection of the network service (networks, subnets, ports, security_groups, floatingips)."""
    client = service.clients.network(context)
    found: list[Json] = getattr(client, f"list_{collection}")(**filters)
    return found


def resolve(
    service: Service, context: Context, wanted: Sequence[NicRequest] | str | None, *, external: bool
) -> list[NicRequest]:
    """The cards that a server will have, checked with the caller's own rights.

    None is what clients before 2.37 leave out, `AUTO` the newer word; both take the one network of the project. `external` tells whether the caller may
    use external networks. Raises `BadRequest`, `Conflict` or `Forbidden` in upstream's sentences.
    """
    if wanted == NOTHING:
        return []
    if wanted is None or wanted == AUTO or not wanted:
        return _automatic(service, context, required=wanted == AUTO)
    assert not isinstance(wanted, str)
    requests = [_with_port(service, context, nic) if nic.port_id else nic for nic in wanted]
    _check_networks(service, context, [nic for nic in requests if not nic.port_id], external=external)
    _check_addresses(service, context, requests)
    return requests


def _automatic(service: Service, context: Context, *, required: bool) -> list[NicRequest]:
    fields = ["id", "subnets", "router:external", "shared", "tenant_id"]
    found = list_all(service, context, "networks", tenant_id=context.project_id, shared=False, fields=fields)
    if not found:
        found = list_all(service, context, "networks", shared=True, fields=fields)
    found = [n for n in found if not n.get("router:external") or n.get("shared")]
    if len(found) > 1:
        raise Conflict("Multiple possible networks found, use a Network ID to be more specific.")
    if not found or not found[0]["subnets"]:
        if required:
            raise BadRequest(f"Unable to automatically allocate a network for project {context.project_id}")
        if not found:
            return []
        raise BadRequest(f"Network {found[0]['id']} requires a subnet in order to boot instances on.")
    return [NicRequest(network_id=found[0]["id"])]


def _with_port(service: Service, context: Context, nic: NicRequest) -> NicRequest:
    try:
        port = service.clients.network(context).show_port(nic.port_id)
    except PeerNotFound:
        raise BadRequest(f"Port id {nic.port_id} could not be found.") from None
    check_usable(service, context, port)
    return NicRequest(network_id=port["network_id"], port_id=port["id"], tag=nic.tag)


def check_usable(service: Service, context: Context, port: Mapping[str, Any]) -> None:
    """Whether a port may become a server's. Raises `Conflict` or `BadRequest`."""
    if port.get("device_id"):
        raise Conflict(f"Port {port['id']} is still in use.")
    if port.get("tenant_id") not in {context.project_id, None} and not context.is_admin:
        raise BadRequest(f"Port id {port['id']} not usable.")
    if not port["fixed_ips"] and port.get("ip_allocation") != "none":
        network = service.clients.network(context).show_network(port["network_id"])
        if network["subnets"]:
            raise BadRequest(f"Port {port['id']} requires a FixedIP in order to be used.")


def _check_networks(service: Service, context: Context, nics: Sequence[NicRequest], *, external: bool) -> None:
    wanted = sorted({nic.network_id for nic in nics if nic.network_id})
    if not wanted:
        return
    known = {n["id"]: n for n in list_all(service, context, "networks", id=wanted)}
    for network_id in wanted:
        network = known.get(network_id)
        if network is None:
            raise BadRequest(f"Network {network_id} could not be found.")
        if network.get("router:external") and not network.get("shared") and not external:
            raise Forbidden(f"It is not allowed to create an interface on external network {network_id}")
        if not network["subnets"]:
            raise BadRequest(f"Network {network_id} requires a subnet in order to boot instances on.")


def _check_addresses(service: Service, context: Context, nics: Sequence[NicRequest]) -> None:
    for nic in nics:
        if not nic.fixed_ip:
            continue
        taken = list_all(
            service,
            context,
            "ports",
            network_id=nic.network_id,
            fixed_ips=f"ip_address={nic.fixed_ip}",
            fields=["id", "device_id"],
        )
        if taken:
            device = taken[0].get("device_id") or "another port"
            raise BadRequest(f"Fixed IP address {nic.fixed_ip} is already in use on instance {device}.")


def resolve_groups(service: Service, context: Context, names: Iterable[str]) -> list[str]:
    """Ids of the caller's security groups by name or id; `default` alone is what the network service does by itself.

    Raises `BadRequest` for one that is not there or whose name is not unique.
    """
    wanted = list(dict.fromkeys(names))
    if not wanted or wanted == ["default"]:
        return []
    known = list_all(service, context, "security_groups", tenant_id=context.project_id, fields=["id", "name"])
    found = []
    for name in wanted:
        by_id = [g["id"] for g in known if g["id"] == name]
        by_name = [g["id"] for g in known if g["name"] == name]
        if not by_id and not by_name:
            raise BadRequest(f"Security group {name} not found for project {context.project_id}.")
        if not by_id and len(by_name) > 1:
            raise Conflict(f"Multiple security groups found matching '{name}'. Use an ID to be more specific.")
        found.append((by_id or by_name)[0])
    return found


def zone_owner(zone: str | None) -> str:
    """The device_owner of a server's port."""
    return f"compute:{zone or 'nova'}"


def sentence(error: PeerError) -> str:
    """What the user is told when the network service refused."""
    return "Maximum number of ports exceeded" if _type(error) == "OverQuota" else error.message


def _type(error: PeerError) -> str:
    """The class of an error of the network service, which clients know it by."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("NeutronError", {}).get("type", ""))


def network_info(service: Service, context: Context, ports: Sequence[Json]) -> dict[str, Json]:
    """Port id -> what a server shows and its guest is told about the port; a constant number of calls for any number of ports."""
    if not ports:
        return {}
    network_ids = sorted({p["network_id"] for p in ports})
    networks = {n["id"]: n for n in list_all(service, context, "networks", id=network_ids)}
    subnets = {n["id"]: n for n in list_all(service, context, "subnets", network_id=network_ids)}
    group_ids = sorted({g for p in ports for g in p.get("security_groups", ())})
    groups = {}
    if group_ids:
        found = list_all(service, context, "security_groups", id=group_ids, fields=["id", "name"])
        groups = {g["id"]: g["name"] for g in found}
    floating: dict[str, list[Json]] = {}
    for item in list_all(service, context, "floatingips", port_id=[p["id"] for p in ports]):
        floating.setdefault(item["port_id"], []).append(item)
    return {
        p["id"]: _vif(p, networks.get(p["network_id"], {}), subnets, groups, floating.get(p["id"], [])) for p in ports
    }


def _vif(
    port: Json, network: Json, subnets: Mapping[str, Json], groups: Mapping[str, str], floating: Sequence[Json]
) -> Json:
    ips = []
    for fixed in port["fixed_ips"]:
        address = fixed["ip_address"]
        version = ipaddress.ip_address(address).version
        ips.append({"address": address, "version": version, "type": "fixed", "subnet_id": fixed["subnet_id"]})
        ips += [
            {"address": f["floating_ip_address"], "version": 4, "type": "floating", "id": f["id"], "fixed": address}
            for f in floating
            if f["fixed_ip_address"] == address
        ]
    used = sorted({fixed["subnet_id"] for fixed in port["fixed_ips"]})
    return {
        "port_id": port["id"],
        "network_id": port["network_id"],
        "label": network.get("name", ""),
        "mtu": network.get("mtu") or 1500,
        "mac": port["mac_address"],
        "active": port.get("status") == "ACTIVE",
        "ips": ips,
        "subnets": [_subnet(subnets[i]) for i in used if i in subnets],
        "security_groups": [groups.get(g, g) for g in port.get("security_groups", ())],
    }


def _subnet(subnet: Json) -> Json:
    return {
        "id": subnet["id"],
        "cidr": subnet["cidr"],
        "version": subnet["ip_version"],
        "gateway": subnet.get("gateway_ip"),
        "dns": subnet.get("dns_nameservers") or [],
        "routes": subnet.get("host_routes") or [],
        "dhcp": bool(subnet.get("enable_dhcp")),
        "ra_mode": subnet.get("ipv6_address_mode"),
    }


def show_port(service: Service, context: Context, port_id: str) -> Json:
    """A port as the caller may see it. Raises `NotFound`."""
    try:
        port: Json = service.clients.network(context).show_port(port_id)
    except PeerNotFound:
        raise NotFound(f"Port id {port_id} could not be found.") from None
    return port


def show_floatingip(service: Service, context: Context, floatingip_id: str) -> Json:
    """A floating IP address as the caller may see it. Raises `NotFound`."""
    found = list_all(service, context, "floatingips", id=floatingip_id)
    if not found:
        raise NotFound(f"Floating IP not found for ID {floatingip_id}")
    return found[0]


def ports_of(service: Service, context: Context, server_ids: Sequence[str]) -> list[Json]:
    """All ports that carry the servers' marker, `device_id`."""
    if not server_ids:
        return []
    return list_all(service, context, "ports", device_id=list(server_ids))


class PortExists(Exception):
    """The port of a server's card was made before."""


def id_of_port(server_id: str, place: int) -> str:
    """The id of the port that is made for a server's card: whoever makes it again makes no second one."""
    return ids.derived_uuid(server_id, f"port-{place}")


def create_port(service: Service, context: Context, body: Json) -> Json:
    """Make a port whose id the body chooses. Raises `PortExists`."""
    try:
        port: Json = service.clients.network(context).create_port(body)
    except PeerConflict as error:
        if _type(error) == "PortExists":
            raise PortExists from error
        raise
    return port


def update_port(service: Service, context: Context, port_id: str, body: Json) -> Json:
    port: Json = service.clients.network(context).update_port(port_id, body)
    return port


def take_port(service: Service, context: Context, port_id: str, marks: Json) -> Json:
    """Mark a port as the server's that `marks` names, unless it is another's. Raises `Conflict`.

    Two servers that were asked for with the same port may come here at the same moment: the port's revision lets one of them in.
    """
    client = service.clients.network(context)
    for _ in range(_ATTEMPTS):
        port = client.show_port(port_id)
        if port["device_id"] not in {"", marks["device_id"]}:
            raise Conflict(f"Port {port_id} is still in use.")
        try:
            taken: Json = client.update_port(port_id, marks, revision=port["revision_number"])
        except PeerConflict as error:
            if error.status != _CHANGED:
                raise
        else:
            return taken
    raise Unavailable(f"Port {port_id} is being changed by others all the time.")


def delete_port(service: Service, context: Context, port_id: str) -> None:
    """Idempotent."""
    service.clients.network(context).delete_port(port_id)


def release_port(service: Service, context: Context, port_id: str) -> None:
    """Give back a port that somebody else made: it stays, without server and host. Idempotent."""
    try:
        update_port(service, context, port_id, {"device_id": "", "device_owner": "", "binding:host_id": ""})
    except PeerNotFound:
        return
