"""Kill -9 any process of Pileus while servers are built and deleted: work ends or is undone, and nothing is left over."""

from __future__ import annotations

import random
import threading

import pytest
from pileus.cli.session import Session, load_config
from pileus.clients.base import PeerNotFound
from pileus.kernel import clock
from pileus.kernel.errors import Failure
from tests.probe.probed import patiently, wait_until

VICTIMS = ("controller", "agent", "api-0", "api-1", "supervisor")
AT_ONCE = 6


def create(probed, name: str) -> None:
    """Ask for a server; when the connection breaks, look whether it was taken before asking again."""
    compute = probed.session.clients.compute(probed.session.context)
    body = {"name": name, "imageRef": probed.image, "flavorRef": "42", "networks": [{"uuid": probed.network}]}
    for _ in range(40):
        try:
            compute.post("/v2.1/servers", {"server": body})
        except Failure as failure:
            assert failure.status >= 500, failure.message
            clock.sleep(0.1)
            if patiently(lambda: compute.get("/v2.1/servers", query={"name": f"^{name}$"}))["servers"]:
                return
        else:
            return
    raise AssertionError(f"{name} could not be asked for")


def mine(probed, prefix: str):
    compute = probed.session.clients.compute(probed.session.context)
    return patiently(lambda: compute.get("/v2.1/servers/detail", query={"name": f"^{prefix}"}))["servers"]


def settled(probed, prefix: str) -> bool:
    return all(server["status"] in {"ACTIVE", "ERROR"} for server in mine(probed, prefix))


def delete_all(probed, prefix: str) -> None:
    compute = probed.session.clients.compute(probed.session.context)
    for server in mine(probed, prefix):
        try:
            patiently(lambda server=server: compute.delete(f"/v2.1/servers/{server['id']}"))
        except PeerNotFound:
            continue


@pytest.fixture
def ready(probed):
    session = probed.session
    probed.image = session.clients.image(session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]
    network = session.clients.network(session.context)
    found = network.get("/v2.0/networks", query={"name": "probed"})["networks"]
    if not found:
        found = [network.post("/v2.0/networks", {"network": {"name": "probed"}})["network"]]
        network.post("/v2.0/subnets", {"subnet": {"network_id": found[0]["id"], "ip_version": 4, "cidr": "10.7.0.0/24"}})
        wait_until(lambda: dhcp_is_there(probed, found[0]["id"]), "the network has its DHCP port")
    probed.network = found[0]["id"]
    return probed


def dhcp_is_there(probed, network_id: str) -> bool:
    network = probed.session.clients.network(probed.session.context)
    query = {"network_id": network_id, "device_owner": "network:dhcp"}
    return bool(network.get("/v2.0/ports", query=query)["ports"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("seed", range(3))
def test_servers_are_built_or_cleanly_failed_and_deleted_whoever_dies(ready, victim, seed):
    probed = ready
    chance = random.Random(f"{victim} {seed}")
    before = probed.traces()
    prefix = f"kill-{victim}-{seed}-{clock.time():.0f}-"
    askers = [threading.Thread(target=create, args=(probed, f"{prefix}{number}")) for number in range(AT_ONCE)]
    for asker in askers:
        asker.start()
    clock.sleep(chance.uniform(0.0, 0.5))
    probed.kill(victim)
    for asker in askers:
        asker.join()
    wait_until(lambda: len(mine(probed, prefix)) == AT_ONCE, "every server that was asked for is known")
    stuck = lambda: probed.why(s for s in mine(probed, prefix) if s["status"] not in {"ACTIVE", "ERROR"})  # noqa: E731
    wait_until(lambda: settled(probed, prefix), "every server is ACTIVE or ERROR", explain=stuck)
    for server in mine(probed, prefix):
        assert server["status"] == "ACTIVE" or server["fault"]["message"], server
    deleter = threading.Thread(target=delete_all, args=(probed, prefix))
    deleter.start()
    clock.sleep(chance.uniform(0.0, 0.3))
    probed.kill(victim)
    deleter.join()
    delete_all(probed, prefix)
    left = lambda: probed.why(mine(probed, prefix))  # noqa: E731
    wait_until(lambda: not mine(probed, prefix), "every server is gone", explain=left)
    wait_until(lambda: probed.traces() == before, "nothing is left over", explain=lambda: f"{before}\n{probed.traces()}\n{left()}")


@pytest.mark.timeout(300)
def test_a_second_start_after_all_processes_died_changes_nothing(ready):
    probed = ready
    before = probed.traces()
    create(probed, "stays")
    wait_until(lambda: settled(probed, "stays"), "the server is built")
    server = mine(probed, "stays")[0]
    for process in ("supervisor", "agent", "supervisor"):
        probed.kill(process)
    assert [entry["id"] for entry in mine(probed, "stays")] == [server["id"]]
    assert mine(probed, "stays")[0]["status"] == "ACTIVE"
    assert server["id"] in probed.guests()
    delete_all(probed, "stays")
    wait_until(lambda: probed.traces() == before, "nothing is left over")


def test_whoever_dies_is_started_again(probed):
    for process in ("api-0", "api-1", "controller", "agent"):
        pid = probed.pid(process)
        probed.kill(process)
        wait_until(lambda process=process, pid=pid: probed.pid(process) not in {0, pid}, f"{process} is back")
    session = patiently(lambda: Session(load_config(probed.home), "admin", "admin"))
    assert session.context.is_admin
