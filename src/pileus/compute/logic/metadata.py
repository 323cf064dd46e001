"""What a guest may read about itself: one builder for the metadata service and the config drive."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from pileus.compute.options import Options
from pileus.compute.wire import GuestMetadata
from pileus.kernel import ids

Json = dict[str, Any]

OPENSTACK_VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
)
EC2_VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
)


def full_hostname(options: Options, server: Mapping[str, Any]) -> str:
    """The guest's name with a domain: its own when it has one, the configured one otherwise."""
    hostname: str = server["hostname"]
    if "." in hostname or not options.dhcp_domain:
        return hostname
    return f"{hostname}.{options.dhcp_domain}"


def guest_metadata(
    options: Options,
    server: Mapping[str, Any],
    metadata: Mapping[str, str],
    ports: Sequence[Mapping[str, Any]] = (),
    *,
    with_password: bool = False,
) -> GuestMetadata:
    """Everything in the newest format. `ports` are rows of server_ports (for device tags). `with_password` is for the config drive alone."""
    return GuestMetadata(
        meta_data=meta_data(options, server, metadata, ports, with_password=with_password),
        user_data=server["user_data"],
        network_data=network_data(server["network_info"] or []),
        vendor_data=dict(options.vendor_data),
        vendor_data2={},
        ec2=ec2_data(options, server),
    )


def meta_data(
    options: Options,
    server: Mapping[str, Any],
    metadata: Mapping[str, str],
    ports: Sequence[Mapping[str, Any]] = (),
    *,
    with_password: bool = False,
) -> Json:
    """openstack/latest/meta_data.json"""
    found: Json = {
        "uuid": server["id"],
        "availability_zone": server["availability_zone"],
        "hostname": full_hostname(options, server),
        "name": server["name"],
        "launch_index": server["launch_index"],
        "project_id": server["project_id"],
        "random_seed": base64.b64encode(ids.token_bytes(512)).decode(),
        "devices": _devices(server["network_info"] or [], ports),
        "dedicated_cpus": [],
    }
    if metadata:
        found["meta"] = dict(metadata)
    if server["key_data"]:
        found["public_keys"] = {server["key_name"]: server["key_data"]}
        found["keys"] = [
            {"name": server["key_name"], "type": _key_type(server["key_data"]), "data": server["key_data"]}
        ]
    if with_password and server["admin_pass"]:
        found["admin_pass"] = server["admin_pass"]
    return found


def _key_type(data: str) -> str:
    return "x509" if data.startswith("-----BEGIN CERTIFICATE") else "ssh"


def _devices(info: Sequence[Json], ports: Sequence[Mapping[str, Any]]) -> list[Json]:
    tags = {port["port_id"]: port["tag"] for port in ports if port["tag"]}
    return [
        {"type": "nic", "bus": "pci", "address": "", "mac": vif["mac"], "tags": [tags[vif["port_id"]]]}
        for vif in info
        if vif["port_id"] in tags
    ]


def network_data(info: Sequence[Json]) -> Json:
    """openstack/latest/network_data.json"""
    links: list[Json] = []
    networks: list[Json] = []
    services: list[Json] = []
    for vif in info:
        link = f"tap{vif['port_id'][:11]}"
        links.append(
            {"id": link, "vif_id": vif["port_id"], "type": "tap", "mtu": vif["mtu"], "ethernet_mac_address": vif["mac"]}
        )
        subnets = {s["id"]: s for s in vif["subnets"]}
        for ip in vif["ips"]:
            if ip["type"] != "fixed" or ip["subnet_id"] not in subnets:
                continue
            subnet = subnets[ip["subnet_id"]]
            networks.append(_network(f"network{len(networks)}", link, vif["network_id"], ip, subnet))
            for address in subnet["dns"]:
                entry = {"type": "dns", "address": address}
                if entry not in services:
                    services.append(entry)
    return {"links": links, "networks": networks, "services": services}


def _network(name: str, link: str, network_id: str, ip: Json, subnet: Json) -> Json:
    version = subnet["version"]
    base = {"id": name, "link": link, "network_id": network_id}
    services = [{"type": "dns", "address": address} for address in subnet["dns"]]
    if version == 6 and subnet["ra_mode"]:
        kind = {"slaac": "ipv6_slaac"}.get(subnet["ra_mode"], f"ipv6_{subnet['ra_mode']}")
        return {**base, "type": kind, "ip_address": ip["address"], "routes": [], "services": services}
    if subnet["dhcp"]:
        return {**base, "type": f"ipv{version}_dhcp"}
    net = ipaddress.ip_network(subnet["cidr"])
    routes = []
    if subnet["gateway"]:
        zero = "0.0.0.0" if version == 4 else "::"
        routes.append({"network": zero, "netmask": zero, "gateway": subnet["gateway"]})
    for route in subnet["routes"]:
        target = ipaddress.ip_network(route["destination"])
        routes.append(
            {"network": str(target.network_address), "netmask": str(target.netmask), "gateway": route["nexthop"]}
        )
    return {
        **base,
        "type": f"ipv{version}",
        "ip_address": ip["address"],
        "netmask": str(net.netmask),
        "routes": routes,
        "services": services,
    }


def ec2_data(options: Options, server: Mapping[str, Any]) -> Json:
    """EC2's meta-data tree as nested dicts; a list of strings is a leaf of several lines."""
    info = server["network_info"] or []
    fixed = [ip["address"] for vif in info for ip in vif["ips"] if ip["type"] == "fixed" and ip["version"] == 4]
    floating = [ip["address"] for vif in info for ip in vif["ips"] if ip["type"] == "floating"]
    groups = sorted({name for vif in info for name in vif["security_groups"]})
    hostname = full_hostname(options, server)
    short = server["id"][:8]
    properties = (server["image"] or {}).get("properties") or {}
    found: Json = {
        "ami-id": f"ami-{(server['image_ref'] or '00000000')[:8]}",
        "ami-launch-index": str(server["launch_index"]),
        "ami-manifest-path": "FIXME",
        "block-device-mapping": {"ami": "vda", "root": server["root_device_name"] or "/dev/vda"},
        "hostname": hostname,
        "instance-action": "none",
        "instance-id": f"i-{short}",
        "instance-type": server["flavor"]["name"],
        "local-hostname": hostname,
        "local-ipv4": fixed[0] if fixed else "",
        "placement": {"availability-zone": server["availability_zone"] or ""},
        "public-hostname": hostname,
        "public-ipv4": floating[0] if floating else "",
        "reservation-id": server["reservation_id"],
        "security-groups": "\n".join(groups),
    }
    if properties.get("kernel_id"):
        found["kernel-id"] = f"aki-{properties['kernel_id'][:8]}"
    if properties.get("ramdisk_id"):
        found["ramdisk-id"] = f"ari-{properties['ramdisk_id'][:8]}"
    if server["key_data"]:
        found["public-keys"] = {"0": {"_name": f"0={server['key_name']}", "openssh-key": server["key_data"]}}
    return found
