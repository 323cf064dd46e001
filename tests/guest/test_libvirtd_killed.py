"""libvirtd is killed again and again while servers are built, switched and deleted on a real host: all of it ends, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.cli.session import Session, load_config
from pileus.host import libvirtd
from tests.guest.test_libvirt_driver import processes
from tests.probe.probed import Probed, patiently, wait_until
from tools.cloud import Cloud

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
HOME = Path("/var/lib/pileus")
SERVERS = 3


class Killer(threading.Thread):
    """Kills what runs of libvirt on this host, at random moments."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self.chance, self.over, self.kills = random.Random(seed), threading.Event(), 0

    def run(self) -> None:
        while not self.over.wait(self.chance.uniform(2.0, 8.0)):
            for program in ("libvirtd", "virtlogd"):
                pid = libvirtd.running(HOME / "libvirt", program)
                if pid is not None and (program == "libvirtd" or self.chance.random() < 0.3):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        self.kills += 1


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud(HOME, simulate=False, port=5000)
    cloud.up()
    yield cloud
    cloud.pileus("destroy", "--yes")


def taps() -> set[str]:
    return {name for _, name in socket.if_nameindex() if name.startswith("tap")}


def test_servers_live_and_die_while_libvirtd_is_killed(cloud: Cloud, request: pytest.FixtureRequest) -> None:
    session = Session(load_config(HOME), "admin", "admin")
    compute, network, image = (getattr(session.clients, kind)(session.context) for kind in ("compute", "network", "image"))
    blank = image.post("/v2/images", {"name": "blank", "disk_format": "raw", "container_format": "bare"})["id"]
    image.request("PUT", f"/v2/images/{blank}/file", iter([bytes(1 << 20)]), headers={"Content-Type": "application/octet-stream"}).read()
    wire = network.post("/v2.0/networks", {"network": {"name": "wire"}})["network"]["id"]
    network.post("/v2.0/subnets", {"subnet": {"network_id": wire, "ip_version": 4, "cidr": "10.9.0.0/24"}})
    wait_until(lambda: network.get("/v2.0/ports", query={"network_id": wire, "status": "ACTIVE"})["ports"], "the network has its DHCP")
    before = taps()

    def of(server_id: str) -> dict:
        return patiently(lambda: compute.show_server(server_id))

    def until(state: str, servers: list[str]) -> None:
        probed = Probed(cloud)
        wait_until(
            lambda: all(of(each)["status"] in {state, "ERROR"} and not of(each)["OS-EXT-STS:task_state"] for each in servers),
            f"all are {state}", 120, lambda: probed.why([{"id": each} for each in servers]),
        )
        assert [(of(each)["status"], of(each).get("fault")) for each in servers] == [(state, None)] * len(servers)

    seed = request.config.getoption("--seed") or random.SystemRandom().randrange(1 << 20)
    print(f"\nseed {seed}")
    killer = Killer(seed)
    killer.start()
    try:
        body = {"imageRef": blank, "flavorRef": "42", "networks": [{"uuid": wire}]}
        servers = [compute.create_server({"name": f"s{number}", **body})["id"] for number in range(SERVERS)]
        until("ACTIVE", servers)
        for action, state in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
            for each in servers:
                compute.act(each, action)
            until(state, servers)
        for each in servers:
            compute.act(each, "reboot", {"type": "HARD"})
        until("ACTIVE", servers)
        for each in servers:
            compute.delete_server(each)
        wait_until(lambda: not compute.list_servers(all_tenants=1), "all are gone", 120)
    finally:
        killer.over.set()
        killer.join()
    print(f"{killer.kills} kills")
    assert killer.kills >= 3
    wait_until(lambda: not processes("qemu-system"), "no guest is left")
    wait_until(lambda: taps() == before, "no tap is left", explain=lambda: f"{sorted(before)} {sorted(taps())}")
    assert not list((HOME / "instances").iterdir())
    probed = Probed(cloud)
    assert probed.rows("placement", "SELECT count(*) FROM allocations") == [(0,)]
    assert probed.rows("network", "SELECT count(*) FROM ports WHERE device_owner LIKE 'compute:%'") == [(0,)]
