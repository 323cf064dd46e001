"""`pileus first-vm`: boot one guest of demo's, wait for its ssh, and say how to reach it."""

from __future__ import annotations

import argparse
import shlex
import socket
import sys
from typing import Any

from pileus.cli import initial
from pileus.cli.session import Session, home_of, load_config
from pileus.cli.terminal import Problem, Steps
from pileus.clients.base import Client
from pileus.kernel import clock

NAME = "first"
SECONDS = 300.0


def run(arguments: argparse.Namespace) -> int:
    """Boot it, unless it is there."""
    config = load_config(home_of(arguments))
    steps = Steps(quiet=arguments.quiet)
    session = Session(config, "demo", "demo")
    compute, network = session.clients.compute(session.context), session.clients.network(session.context)
    server = _find(compute)
    existed = server is not None
    if server is None:
        server = _boot(session, steps)
    address = _address(network, server)
    if not config.pileus.simulate:
        with steps.step(f"ssh of {NAME} answers at {address}"):
            wait_for_ssh(compute, server["id"], address)
    if existed:
        steps.say(f"The guest {NAME} was there already. Nothing was changed.")
    print(f"API:         {config.base_url}")
    print(f'Credentials: eval "$({_command(arguments)} env --user demo)"   (or --user admin)')
    if not config.pileus.simulate:
        print(f"Guest:       ssh -i {initial.key_file(config.home)} -o StrictHostKeyChecking=no root@{address}")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command as it was called, for the same home."""
    home = f" --home {shlex.quote(arguments.home)}" if arguments.home else ""
    return sys.argv[0] + home


def _find(compute: Client) -> dict[str, Any] | None:
    servers = compute.get("/v2.1/servers/detail", query={"name": f"^{NAME}$"})["servers"]
    return servers[0] if servers else None


def _boot(session: Session, steps: Steps) -> dict[str, Any]:
    compute, network = session.clients.compute(session.context), session.clients.network(session.context)
    image = session.clients.image(session.context)
    images = image.get("/v2/images", query={"name": initial.IMAGE, "status": "active"})["images"]
    if not images:
        raise Problem("There is no guest image. Build one with `pileus image build`, then try again.")
    networks = network.get("/v2.0/networks", query={"name": "private"})["networks"]
    flavors = compute.get("/v2.1/flavors")["flavors"]
    flavor = next((entry["id"] for entry in flavors if entry["name"] == "m1.nano"), flavors[0]["id"])
    body = {
        "name": NAME,
        "imageRef": images[0]["id"],
        "flavorRef": flavor,
        "networks": [{"uuid": networks[0]["id"]}],
        "key_name": "demo",
    }
    with steps.step(f"boot of {NAME}"):
        server_id = compute.post("/v2.1/servers", {"server": body})["server"]["id"]
        return wait_for_active(compute, server_id)


def wait_for_active(compute: Client, server_id: str) -> dict[str, Any]:
    """The server once it is ACTIVE. Raises Problem with its fault when it cannot be."""
    deadline = clock.monotonic() + SECONDS
    while clock.monotonic() < deadline:
        server: dict[str, Any] = compute.get(f"/v2.1/servers/{server_id}")["server"]
        if server["status"] == "ACTIVE":
            return server
        if server["status"] == "ERROR":
            raise Problem(f"The guest could not be booted: {server.get('fault', {}).get('message', 'no reason given')}")
        clock.sleep(0.1)
    raise Problem(f"The guest did not become ACTIVE in {SECONDS:g} s; `pileus why {server_id}` tells where it is.")


def _address(network: Client, server: dict[str, Any]) -> str:
    """The floating address of the server; one is made when it has none."""
    ports = network.get("/v2.0/ports", query={"device_id": server["id"]})["ports"]
    found = network.get("/v2.0/floatingips", query={"port_id": ports[0]["id"]})["floatingips"]
    if found:
        return str(found[0]["floating_ip_address"])
    external = network.get("/v2.0/networks", query={"router:external": True})["networks"][0]
    body = {"floating_network_id": external["id"], "port_id": ports[0]["id"]}
    return str(network.post("/v2.0/floatingips", {"floatingip": body})["floatingip"]["floating_ip_address"])


def wait_for_ssh(compute: Client, server_id: str, address: str) -> None:
    """Until an ssh server greets. Raises Problem when none does in time, or the guest does not run."""
    deadline = clock.monotonic() + SECONDS
    while clock.monotonic() < deadline:
        try:
            with socket.create_connection((address, 22), timeout=3) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        status = compute.get(f"/v2.1/servers/{server_id}")["server"]["status"]
        if status not in {"ACTIVE", "REBOOT", "HARD_REBOOT"}:
            raise Problem(f"The guest {NAME} is {status}. `openstack server start {NAME}` lets one run that was stopped.")
        clock.sleep(0.5)
    raise Problem(
        f"Nothing answers at {address} port 22. `openstack console log show {NAME}` shows the guest's console."
    )
