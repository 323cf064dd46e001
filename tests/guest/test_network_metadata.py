"""Metadata as guests get it: through a router, and on a network without one; compute is played by a small server of the test."""

from __future__ import annotations

import dataclasses
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.host.run import run
from pileus.network.agent.loops import Keeper
from pileus.network.agent.metadata import MetadataProxy, by_secret
from pileus.network.agent.secret import sign
from pileus.network.drivers.base import Settings
from pileus.network.drivers.linux.driver import LinuxDriver
from pileus.network.wire import MetadataOwner, RouterItem
from tests.contracts import network_world as world
from tests.contracts.network_world import Guest, World, a_gateway, a_group, a_lease, a_network, a_port, an_interface, new_id

pytestmark = pytest.mark.real
SECRET = b"shared"


class Compute(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[dict] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append({"path": self.path, "method": self.command, "body": body, **{name.lower(): value for name, value in self.headers.items()}})
                known = hmac_ok = self.headers["X-Instance-ID-Signature"] == sign(SECRET, self.headers["X-Instance-ID"])
                answer = b"x" * 300_000 if "large" in self.path else self.headers["X-Instance-ID"].encode()
                self.send_response(200 if known and hmac_ok else 403)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Scene(World):
    def __init__(self, home: Path) -> None:
        super().__init__(LinuxDriver(Settings(home=home, host="h1")))
        self.compute = Compute()
        self.guests: list[Guest] = []
        self.keeper = Keeper("h1", self.driver, None)
        self.keeper._state = self.state
        self.proxy = MetadataProxy(f"http://127.0.0.1:{self.compute.server_port}/compute", by_secret(SECRET), self.keeper.owner)
        self.proxy.start()

    def sync(self, **items):
        failures = super().sync(**items)
        self.proxy.listen(self.driver.listeners(self.state))
        world.wait_until_forwarding()
        return failures

    def guest(self, network, ip: str, server: str, *, gateway: str = "") -> tuple[Guest, object, object]:
        port = a_port(network, ip, self.group, device_id=server)
        guest = Guest(port).address(gateway=gateway)
        self.guests.append(guest)
        owner = MetadataOwner(ip=ip, port_id=port.id, device_id=server, project_id="tenant-" + server)
        return guest, port, owner

    def close(self) -> None:
        self.proxy.stop()
        self.compute.shutdown()
        for guest in self.guests:
            guest.close()
        self.driver.remove_everything()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    run(["ip", "link", "set", "lo", "up"])
    scene = Scene(tmp_path)
    scene.group = a_group()
    yield scene
    scene.close()


def ask(guest: Guest, path: str, *, method: str = "GET", headers: str = "", body: bytes = b"") -> tuple[int, bytes]:
    connection = guest.connect("169.254.169.254", 80, 3)
    assert connection is not None
    with connection:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{headers}{length}\r\n".encode() + body)
        connection.settimeout(10)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


def routed(scene: Scene):
    network = a_network()
    guest, port, owner = scene.guest(network, "10.1.0.5", "server-1", gateway="10.1.0.1")
    network = dataclasses.replace(network, metadata=(owner,))
    router = RouterItem(id=new_id(), interfaces=(an_interface(network),), gateway=a_gateway())
    assert scene.sync(networks=[network, world.EXTERNAL], ports=[port], groups=[scene.group], routers=[router]) == {}
    return guest, router, network


def test_metadata_through_a_router_tells_who_asks(scene: Scene) -> None:
    guest, _, _ = routed(scene)
    assert ask(guest, "/openstack/latest/meta_data.json", headers="X-Instance-ID: somebody-else\r\nX-Tenant-ID: other\r\n") == (200, b"server-1")
    seen = scene.compute.seen[0]
    assert seen["path"] == "/compute/metadata/openstack/latest/meta_data.json"
    assert (seen["x-instance-id"], seen["x-tenant-id"], seen["x-forwarded-for"]) == ("server-1", "tenant-server-1", "10.1.0.5")


def test_bodies_and_large_answers_pass(scene: Scene) -> None:
    guest, _, _ = routed(scene)
    assert ask(guest, "/openstack/latest/password", method="POST", body=b"secret")[0] == 200
    assert (scene.compute.seen[0]["method"], scene.compute.seen[0]["body"]) == ("POST", b"secret")
    assert len(ask(guest, "/large")[1]) == 300_000


def test_metadata_on_a_network_without_router(scene: Scene) -> None:
    network = a_network(dhcp=True, isolated=True)
    guest, port, owner = scene.guest(network, "10.1.0.5", "server-1")
    network = dataclasses.replace(network, leases=(a_lease(network, port),), metadata=(owner,))
    assert scene.sync(networks=[network], ports=[port], groups=[scene.group]) == {}
    run(["ip", "-n", guest.name, "route", "add", "169.254.169.254", "via", "10.1.0.2"])
    assert ask(guest, "/latest") == (200, b"server-1")


def test_two_tenants_with_the_same_address_get_their_own(scene: Scene) -> None:
    made = []
    for number, server in enumerate(("server-1", "server-2")):
        network = a_network(number, dhcp=True, isolated=True, cidr="10.1.0.0/24")
        guest, port, owner = scene.guest(network, "10.1.0.5", server)
        network = dataclasses.replace(network, leases=(a_lease(network, port),), metadata=(owner,))
        assert scene.sync(networks=[network], ports=[port], groups=[scene.group]) == {}
        run(["ip", "-n", guest.name, "route", "add", "169.254.169.254", "via", "10.1.0.2"])
        made.append(guest)
    assert [ask(guest, "/latest") for guest in made] == [(200, b"server-1"), (200, b"server-2")]


def test_an_address_nobody_has_gets_404(scene: Scene) -> None:
    guest, _, network = routed(scene)
    scene.sync(networks=[dataclasses.replace(network, metadata=())])
    assert ask(guest, "/latest")[0] == 404
    assert scene.compute.seen == []


def test_without_compute_the_answer_is_503(scene: Scene) -> None:
    guest, _, _ = routed(scene)
    scene.compute.shutdown()
    scene.compute.server_close()
    assert ask(guest, "/latest")[0] == 503


def test_nobody_reaches_the_proxy_from_outside(scene: Scene) -> None:
    guest, router, _ = routed(scene)
    with pytest.raises(OSError):
        socket.create_connection(("172.24.4.10", 9697), 1)
    assert guest.connect("10.1.0.1", 9697) is None


def test_a_guest_that_hogs_connections_is_held_to_its_share(scene: Scene) -> None:
    guest, _, _ = routed(scene)
    slow = [guest.connect("169.254.169.254", 80) for _ in range(8)]
    assert all(slow)
    for connection in slow:
        connection.send(b"GET /latest HTTP/1.1\r\n")
    refused = guest.connect("169.254.169.254", 80)
    refused.settimeout(5)
    assert refused.recv(100).startswith(b"HTTP/1.1 503")
    for connection in slow:
        connection.send(b"\r\n")
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_a_router_that_is_made_anew_is_listened_in_again(scene: Scene) -> None:
    guest, router, _ = routed(scene)
    scene.sync(routers=[dataclasses.replace(router, admin_state_up=False)])
    scene.sync(routers=[router])
    assert guest.reaches("10.1.0.1")
    assert ask(guest, "/latest") == (200, b"server-1")
