"""DHCP: a namespace with one leg in the network, and a dnsmasq in it that knows exactly the network's ports.

Which port gets what stands in two files that dnsmasq reads again on SIGHUP; it is restarted only when its options change (or ports with
options of their own come or go, see `Daemon.reload`). There is no file of leases:
addresses are fixed by port, and `--dhcp-authoritative` confirms what a guest remembers after a restart.
"""

from __future__ import annotations

import contextlib
import ipaddress
import pwd
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from pileus.host import netns
from pileus.host.dnsmasq import Daemon, user_for
from pileus.host.sysctl import replace_file
from pileus.network.drivers import names
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux import legs
from pileus.network.wire import Lease, NetworkItem, Subnet

METADATA_ADDRESS = "169.254.169.254"
_STEADY = re.compile(r"[\x20-\x7e]*")


class Dhcp:
    """The DHCP servers of this host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = settings.run / "dhcp"
        self._applied: dict[str, tuple[object, ...]] = {}

    def ensure(self, network: NetworkItem, bridge: str, *, compare: bool) -> bool:
        """Have the network's DHCP as it shall be; `compare`: look at the host even where nothing changed since the last apply."""
        assert network.dhcp is not None
        shape = (network.dhcp, network.mtu, network.subnets, network.isolated, bridge)
        if compare or self._applied.get(network.id) != shape:
            self._applied.pop(network.id, None)
            self._ensure_leg(network, bridge)
        directory = self._prepare_directory(network.id)
        user = user_for(directory)
        owner = pwd.getpwnam(user).pw_uid
        texts = {"hosts": self._hosts(network), "options": _options(network), "names": self._names(network)}
        tagged = _has_tags(directory / "hosts")
        changed = [replace_file(directory / name, text.encode(), owner=owner, durable=False) for name, text in texts.items()]
        daemon = Daemon(directory, names.dhcp_namespace(network.id))
        started = daemon.ensure(self._arguments(network, directory, user), anew=tagged and any(changed))
        if any(changed) and not started:
            daemon.reload()
        self._applied[network.id] = shape
        return started or any(changed)

    def remove(self, network_id: str) -> None:
        """Stop a network's DHCP and remove its namespace, leg and files; none there is fine."""
        self._applied.pop(network_id, None)
        namespace = names.dhcp_namespace(network_id)
        directory = self._directory / network_id
        Daemon(directory, namespace).stop()
        legs.remove_namespace(namespace)
        shutil.rmtree(directory, ignore_errors=True)

    def remove_directories(self) -> None:
        """Remove the directories that held all of it, as far as nobody else uses them."""
        for each in (self._directory, *list(self._directory.parents)[:2]):
            with contextlib.suppress(OSError):
                each.rmdir()

    def present(self) -> set[str]:
        """Networks that have DHCP files or a namespace of ours here."""
        found = {entry.name for entry in self._directory.iterdir()} if self._directory.exists() else set()
        prefix = names.dhcp_namespace("")
        spaces = [name for name in netns.names() if name.startswith(prefix) and names.NAMESPACE.fullmatch(name)]
        return found | {name.removeprefix(prefix) for name in spaces if netns.is_ours(name)}

    def is_up(self, network: NetworkItem) -> bool:
        """Whether the network's dnsmasq runs."""
        return Daemon(self._directory / network.id, names.dhcp_namespace(network.id)).running() is not None

    def _ensure_leg(self, network: NetworkItem, bridge: str) -> None:
        assert network.dhcp is not None
        namespace = names.dhcp_namespace(network.id)
        legs.ensure_namespace(namespace)
        prefixes = {subnet.id: subnet.cidr.partition("/")[2] for subnet in network.subnets}
        addresses = {f"{each.ip}/{prefixes[each.subnet_id]}" for each in network.dhcp.ips if each.subnet_id in prefixes}
        if serves_metadata(network):
            addresses.add(f"{METADATA_ADDRESS}/32")
        leg = legs.Leg(
            port_id=network.dhcp.port_id, device=names.dhcp_link(network.dhcp.port_id), bridge=bridge, mac=network.dhcp.mac, mtu=network.mtu,
            addresses=frozenset(addresses),
        )  # fmt: skip
        new = legs.ensure(namespace, [leg])
        legs.announce(namespace, leg, new.get(leg.device, ()))

    def _prepare_directory(self, network_id: str) -> Path:
        """The network's directory; those above it can be passed by dnsmasq's own account, the files belong to it."""
        directory = self._directory / network_id
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)
            for each in (directory, *list(directory.parents)[:3]):
                each.chmod(0o711)
        return directory

    def _arguments(self, network: NetworkItem, directory: Path, user: str) -> list[str]:
        assert network.dhcp is not None
        arguments = [
            "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-dynamic", f"--interface={names.dhcp_link(network.dhcp.port_id)}",
            "--except-interface=lo", f"--dhcp-hostsfile={directory / 'hosts'}", f"--dhcp-optsfile={directory / 'options'}",
            f"--addn-hosts={directory / 'names'}", "--leasefile-ro", "--dhcp-authoritative", "--dhcp-match=set:ipxe,175",
            "--dhcp-userclass=set:ipxe6,iPXE", f"--user={user}", f"--domain={network.dns_domain.strip('.') or self._settings.dns_domain}",
            "--quiet-dhcp", "--quiet-dhcp6", "--quiet-ra", f"--dhcp-option-force=option:mtu,{network.mtu}",
        ]  # fmt: skip
        seconds = self._settings.dhcp_lease_seconds
        total = 0
        for subnet in _served(network):
            net = ipaddress.ip_network(subnet.cidr)
            total += net.num_addresses
            if net.version == 4:
                arguments.append(f"--dhcp-range=set:{_tag(subnet)},{net.network_address},static,{net.netmask},{seconds}s")
            else:
                arguments.append(f"--dhcp-range=set:{_tag(subnet)},{net.network_address},static,{max(64, net.prefixlen)},{seconds}s")
        return [*arguments, f"--dhcp-lease-max={min(total, 1 << 24)}"]

    def _hosts(self, network: NetworkItem) -> str:
        served = {subnet.id for subnet in _served(network)}
        domain = network.dns_domain.strip(".") or self._settings.dns_domain
        lines = []
        for lease in network.leases:
            if lease.subnet_id in served:
                address = f"[{lease.ip}]" if ":" in lease.ip else lease.ip
                tag = f"set:port-{lease.port_id}," if lease.extra_dhcp_opts else ""
                lines.append(f"{lease.mac},id:*,{tag}{_hostname(lease)}.{domain},{address}\n")
        return "".join(sorted(lines))

    def _names(self, network: NetworkItem) -> str:
        domain = network.dns_domain.strip(".") or self._settings.dns_domain
        return "".join(sorted(f"{lease.ip}\t{_hostname(lease)}.{domain} {_hostname(lease)}\n" for lease in network.leases))


def serves_metadata(network: NetworkItem) -> bool:
    """Whether the DHCP namespace answers metadata: no router does for some of the guests."""
    return network.dhcp is not None and any(subnet.ip_version == 4 for subnet in _served(network) if network.isolated or not subnet.gateway_ip)


def _has_tags(hosts: Path) -> bool:
    """Whether the hosts that a running dnsmasq has read carry tags: then it must be restarted (see Daemon.reload)."""
    try:
        return ",set:" in hosts.read_text()
    except FileNotFoundError:
        return False


def _served(network: NetworkItem) -> Iterable[Subnet]:
    for subnet in network.subnets:
        if subnet.enable_dhcp and (subnet.ip_version == 4 or subnet.ipv6_address_mode == "dhcpv6-stateful"):
            yield subnet


def _tag(subnet: Subnet) -> str:
    return f"subnet-{subnet.id}"


def _hostname(lease: Lease) -> str:
    return lease.hostname or "host-" + re.sub(r"[.:]+", "-", lease.ip).strip("-")


def _options(network: NetworkItem) -> str:
    """The options file: what every guest of a subnet gets, and what single ports get on top."""
    assert network.dhcp is not None
    lines: list[str] = []
    own = {each.subnet_id: each.ip for each in network.dhcp.ips}
    for subnet in _served(network):
        if subnet.ip_version == 4:
            lines += _subnet_options(network, subnet, own.get(subnet.id))
        elif subnet.dns_nameservers:
            lines.append(f"tag:{_tag(subnet)},option6:dns-server,{','.join(f'[{server}]' for server in subnet.dns_nameservers)}")
    for port_id, option in dict.fromkeys((lease.port_id, option) for lease in network.leases for option in lease.extra_dhcp_opts):
        if not _STEADY.fullmatch(option.opt_name + (option.opt_value or "")):
            continue
        kind = "option" if option.ip_version == 4 else "option6"
        name = option.opt_name if option.opt_name.isdigit() and option.ip_version == 4 else f"{kind}:{option.opt_name}"
        lines.append(f"tag:port-{port_id},{name}" + (f",{option.opt_value}" if option.opt_value else ""))
    return "".join(f"{line}\n" for line in lines)


def _subnet_options(network: NetworkItem, subnet: Subnet, server: str | None) -> list[str]:
    tag = f"tag:{_tag(subnet)}"
    dns = [each for each in subnet.dns_nameservers if ":" not in each] or ([server] if server else [])
    routes = [(route.destination, route.nexthop) for route in subnet.host_routes]
    if (network.isolated or not subnet.gateway_ip) and server:
        routes.append((f"{METADATA_ADDRESS}/32", server))
    routes += [(other.cidr, "0.0.0.0") for other in network.subnets if other.ip_version == 4 and other.id != subnet.id]
    if subnet.gateway_ip and all(destination != "0.0.0.0/0" for destination, _ in routes):
        routes.append(("0.0.0.0/0", subnet.gateway_ip))
    lines = [f"{tag},option:dns-server,{','.join(dns)}"] if dns and dns != ["0.0.0.0"] else [f"{tag},option:dns-server"]
    if routes:
        flat = ",".join(f"{destination},{nexthop}" for destination, nexthop in routes)
        lines += [f"{tag},option:classless-static-route,{flat}", f"{tag},249,{flat}"]
    return [*lines, f"{tag},option:router,{subnet.gateway_ip}" if subnet.gateway_ip else f"{tag},option:router"]
