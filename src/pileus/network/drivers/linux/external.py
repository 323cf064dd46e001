"""The external network on a host: a bridge with the host's own address in it, hidden behind the host's default route if there is one,
or with a physical interface in it.

Forwarding is switched on for the bridge and the uplink alone. Where the uplink did not forward before, a rule keeps it from forwarding to anything
but the bridge. The host's own address and routes are never touched, so that nobody is cut off.
"""

from __future__ import annotations

import ipaddress

from pileus.host import netlink, nft, sysctl
from pileus.host.netlink import MARK, Words
from pileus.network.drivers import names
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux.tables import Change, TableKeeper

_HOOKS = {
    "postrouting": "type nat hook postrouting priority srcnat ; policy accept",
    "forward": "type filter hook forward priority filter ; policy accept",
}


class External:
    """The external bridge of this host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recorder = sysctl.Recorder(settings.home / "host-state.json")
        self._table = TableKeeper(*names.HOST_NAT_TABLE, hooks=_HOOKS.get, types={})

    def ensure(self) -> None:
        """Have the bridge, its address or interface, and the way out. Raises ValueError when the interface carries the host's addresses."""
        name, interface = self._settings.external_bridge, self._settings.external_interface
        link = netlink.link(name)
        if link is None:
            netlink.ip_batch([
                ("link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0", "nf_call_iptables", "1", "nf_call_ip6tables", "1"),
                ("link", "set", "dev", name, "alias", MARK, "addrgenmode", "none"),
                ("link", "set", "dev", name, "up"),
            ])
            link = netlink.link(name)
            assert link is not None
            # An address that is set stays; a bridge would else take the lowest of its ports and change with them.
            netlink.ip_batch([("link", "set", "dev", name, "address", link.mac)])
        if interface:
            self._enslave(link, interface)
        else:
            self._ensure_address(name)
        self._ensure_way_out(name)

    def remove(self) -> None:
        """Remove the bridge (a physical interface leaves it), the NAT, and put changed settings back."""
        nft.delete_table(*names.HOST_NAT_TABLE)
        link = netlink.link(self._settings.external_bridge)
        if link is not None and link.ours:
            lines: list[Words] = []
            interface = netlink.link(self._settings.external_interface) if self._settings.external_interface else None
            if interface is not None and interface.master == link.index:
                lines.append(("link", "set", "dev", interface.name, "nomaster"))
            netlink.ip_batch([*lines, ("link", "delete", "dev", link.name)])
        self._recorder.restore()

    def _enslave(self, bridge: netlink.Link, interface: str) -> None:
        link = netlink.link(interface)
        if link is None:
            raise ValueError(f"the external interface {interface} is not on this host")
        if link.master == bridge.index and link.up:
            return
        addresses = [info for entry in netlink.ip_json(["addr", "show", "dev", interface]) for info in entry["addr_info"] if info["scope"] == "global"]
        if addresses:
            raise ValueError(
                f"the external interface {interface} carries the host's address {addresses[0]['local']}; "
                "put an interface without addresses into external_interface, or leave it empty to go out through the host's default route"
            )
        netlink.ip_batch([("link", "set", "dev", interface, "master", bridge.name, "up")])

    def _ensure_address(self, name: str) -> None:
        wanted = self._settings.external_cidr
        present = {f"{info['local']}/{info['prefixlen']}" for entry in netlink.ip_json(["-4", "addr", "show", "dev", name]) for info in entry["addr_info"]}
        lines: list[Words] = [("addr", "delete", address, "dev", name) for address in sorted(present - {wanted})]
        if wanted and wanted not in present:
            lines.append(("addr", "add", wanted, "dev", name))
        netlink.ip_batch(lines)

    def _ensure_way_out(self, name: str) -> None:
        settings = self._settings
        uplink = None if settings.external_interface or not settings.external_cidr else netlink.default_route_link()
        self._table.forget()
        if uplink is None or uplink == name:
            if self._table.known.chains:
                self._table.remove()
            return
        forwarding = f"net/ipv4/conf/{uplink}/forwarding"
        sysctl.write(f"net/ipv4/conf/{name}/forwarding", "1")
        self._recorder.set(forwarding, "1")
        only_ours = self._recorder.recorded(forwarding) == "0"
        net = ipaddress.ip_network(settings.external_cidr, strict=False)
        self._table.apply(Change(chains={
            "postrouting": (f'ip saddr {net} oifname "{uplink}" masquerade',),
            "forward": (f'iifname "{uplink}" oifname != {{ "{name}", "{uplink}" }} drop',) if only_ours else (),
        }))  # fmt: skip
