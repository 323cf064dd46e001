"""The wrappers of the host's tools against the real kernel: links, namespaces, nftables, connections, dnsmasq."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.host import conntrack, netlink, netns, nft
from pileus.host.dnsmasq import Daemon
from pileus.host.run import CommandFailed, run

pytestmark = pytest.mark.real


@pytest.fixture
def links() -> Iterator[None]:
    netlink.ip_batch([
        ("link", "set", "lo", "up"), ("link", "add", "br0", "type", "bridge"), ("link", "set", "dev", "br0", "alias", netlink.MARK),
        ("link", "add", "v0", "mtu", "1400", "type", "veth", "peer", "name", "v1"), ("link", "set", "dev", "v0", "master", "br0", "up"),
    ])
    yield
    netlink.ip_batch_if_there([("link", "delete", "dev", name) for name in ("v0", "br0")])


def test_a_link_tells_its_kind_master_mtu_and_whether_it_is_ours(links: None) -> None:
    bridge, veth = netlink.link("br0"), netlink.link("v0")
    assert (bridge.kind, bridge.ours, bridge.up) == ("bridge", True, False)
    assert (veth.kind, veth.ours, veth.up, veth.mtu, veth.master) == ("veth", False, True, 1400, bridge.index)
    assert netlink.links()["v0"] == veth
    assert netlink.link("none") is None


def test_a_batch_names_the_line_that_failed(links: None) -> None:
    with pytest.raises(CommandFailed, match=r"link set dev none up.*Cannot find device"):
        netlink.ip_batch([("link", "set", "dev", "v1", "up"), ("link", "set", "dev", "none", "up")])
    assert netlink.link("v1").up


def test_words_cannot_smuggle_in_another_line(links: None) -> None:
    with pytest.raises(ValueError, match="cannot be a word"):
        netlink.ip_batch([("link", "set", "dev", "v0\nlink delete br0")])


def test_taking_away_what_has_gone_is_fine_and_other_errors_are_not(links: None) -> None:
    netlink.ip_batch_if_there([("link", "delete", "dev", "none"), ("link", "set", "dev", "v0", "nomaster")])
    assert netlink.link("v0").master == 0
    with pytest.raises(CommandFailed, match="mtu"):
        netlink.ip_batch_if_there([("link", "set", "dev", "v0", "mtu", "1")])


def test_link_events_name_what_came_and_went() -> None:
    events = netlink.LinkEvents()
    seen: list[netlink.LinkEvent] = []
    run(["ip", "tuntap", "add", "dev", "tapx", "mode", "tap"])
    run(["ip", "link", "delete", "tapx"])
    while not any(event.gone for event in seen):
        more = events.read(5)
        assert more
        seen += more
    events.close()
    assert {event.name for event in seen} == {"tapx"}


def test_waiting_for_link_events_can_be_ended() -> None:
    events = netlink.LinkEvents()
    threading.Timer(0.05, events.wake).start()
    assert events.read(30) == []
    events.close()


def test_a_namespace_is_marked_as_ours_and_sockets_made_inside_stay_there() -> None:
    netns.create("t1")
    try:
        assert netns.is_ours("t1")
        server = netns.inside("t1", lambda: socket.create_server(("127.0.0.1", 0)))
        with pytest.raises(OSError):
            socket.create_connection(server.getsockname(), 1)
        netns.inside("t1", lambda: socket.create_connection(server.getsockname(), 1).close())
    finally:
        netns.delete("t1")
    assert not netns.is_ours("t1")
    with pytest.raises(FileNotFoundError):
        netns.inside("t1", lambda: None)


def test_a_table_is_read_as_it_was_loaded_and_a_removed_rule_shows() -> None:
    rules = ["meta mark 0x1 accept", "drop"]
    nft.apply(
        "table bridge t {\n set s { type ipv4_addr ; flags interval ; elements = { 10.0.0.1, 10.1.0.0/16 } ; }\n"
        ' map m { type ifname : verdict ; }\n chain c {\n' + "\n".join([nft.stamp(rules), *rules]) + "\n }\n}\n"
        'add element bridge t m { "tapA" : jump c }\n'
    )
    try:
        table = nft.table("bridge", "t")
        assert table.chains == {"c": nft.version(rules)}
        assert table.sets == {"s": {"10.0.0.1", "10.1.0.0/16"}}
        assert table.maps == {"m": {"tapA": "jump c"}}
        handle = run(["nft", "-a", "list", "chain", "bridge", "t", "c"]).stdout.split("drop # handle ")[1].split()[0]
        run(["nft", "delete", "rule", "bridge", "t", "c", "handle", handle])
        assert nft.table("bridge", "t").chains == {"c": ""}
    finally:
        nft.delete_table("bridge", "t")
    assert nft.table("bridge", "t") is None


def test_connections_of_a_zone_can_be_marked_and_forgotten(links: None) -> None:
    hooks = ("prerouting", "output")
    chains = "".join(f" chain {hook}_z {{\n type filter hook {hook} priority raw\n ct zone set 7\n }}\n" for hook in hooks)
    nft.apply(f"table inet t {{\n{chains} chain s {{\n type filter hook input priority filter\n ct state established accept\n }}\n}}\n")
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            port = client.getsockname()[1]

            def mine() -> list[conntrack.Connection]:
                return [each for each in conntrack.connections(7) if each.source_port == port]

            assert [(each.protocol, each.source, each.destination_port) for each in mine()] == [(6, "127.0.0.1", server.getsockname()[1])]
            assert not [each for each in conntrack.connections(8) if each.source_port == port]
            conntrack.set_mark(mine()[0], 0x30, 0xF0)
            conntrack.set_mark(mine()[0], 0x01, 0x0F)
            assert mine()[0].mark == 0x31
            kept = mine()
            conntrack.forget_addresses(["127.0.0.1"], 7)
            assert mine() == []
            conntrack.forget(kept)
            conntrack.set_mark(kept[0], 0, 1)
    finally:
        nft.delete_table("inet", "t")


class TestDnsmasq:
    OPTIONS = ["--conf-file=/dev/null", "--port=0", "--no-resolv", "--interface=lo", "--dhcp-range=127.0.0.9,127.0.0.10", "--leasefile-ro", "--user=root"]

    @pytest.fixture
    def daemon(self, tmp_path: Path) -> Iterator[Daemon]:
        netns.create("d1")
        daemon = Daemon(tmp_path, "d1")
        yield daemon
        daemon.stop()
        netns.delete("d1")

    def test_a_running_one_is_adopted(self, daemon: Daemon) -> None:
        assert daemon.ensure(self.OPTIONS)
        pid = daemon.running()
        assert pid in netns.pids("d1")
        later = Daemon(daemon.directory, "d1")
        assert not later.ensure(self.OPTIONS)
        assert later.running() == pid
        later.reload()
        assert later.running() == pid

    def test_other_options_restart_it(self, daemon: Daemon) -> None:
        daemon.ensure(self.OPTIONS)
        pid = daemon.running()
        assert daemon.ensure([*self.OPTIONS, "--dhcp-lease-max=7"])
        assert daemon.running() != pid
        assert netns.pids("d1") == [daemon.running()]

    def test_a_killed_one_is_started_again(self, daemon: Daemon) -> None:
        daemon.ensure(self.OPTIONS)
        pid = daemon.running()
        descriptor = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        import select

        select.select([descriptor], [], [], 5)
        os.close(descriptor)
        assert daemon.ensure(self.OPTIONS)
        assert daemon.running() not in {None, pid}

    def test_a_stranger_with_the_same_pid_is_left_alone(self, daemon: Daemon) -> None:
        daemon.pid_file.write_text(str(os.getpid()))
        assert daemon.running() is None
        daemon.stop()
        assert os.getpid()

    def test_wrong_options_are_told(self, daemon: Daemon) -> None:
        with pytest.raises(CommandFailed, match="bad"):
            daemon.ensure(["--dhcp-range=nonsense"])


def test_a_forward_policy_that_drops_is_named() -> None:
    from pileus.host.firewall import forward_policies_that_drop

    assert forward_policies_that_drop() == []
    nft.apply("table ip filter {\n chain FORWARD { type filter hook forward priority filter ; policy drop ; }\n}\n")
    try:
        assert forward_policies_that_drop() == ["the chain FORWARD of table ip filter drops forwarded packets by policy"]
    finally:
        nft.delete_table("ip", "filter")
