"""Fifty clients at once ask two API processes for what only a few can have: exactly those few get it, the others hear upstream's no."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pileus.cli.session import Session, load_config
from pileus.kernel import ids
from pileus.kernel.errors import Failure

from tests import databases
from tests.probe.probed import Probed, wait_until
from tools.cloud import ThrowAway

CLIENTS = 50
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKT0c5pVmAkAAYb0x3BZkR8O5kCEZ7HrzWmyHYOSfOHK nobody@nowhere"
NO_NETWORK = {"OpenStack-API-Version": "compute 2.37"}


@pytest.fixture(scope="module", params=("sqlite", "postgresql"))
def crowded(request: pytest.FixtureRequest) -> Iterator[Probed]:
    with databases.cloud_url(request.param) as url:
        with ThrowAway(toml=f'[database]\nurl = "{url}"\n' if url else "") as cloud:
            yield Probed(cloud)


class Project:
    """A new project with its own quota, in which admin works with the role member."""

    def __init__(self, probed: Probed) -> None:
        self.admin = probed.session
        self.name = f"race-{ids.new_id()[:8]}"
        identity = self.admin.clients.identity(self.admin.context)
        self.id = identity.post("/v3/projects", {"project": {"name": self.name, "domain_id": "default"}})["project"]["id"]
        role = identity.get("/v3/roles", query={"name": "member"})["roles"][0]["id"]
        identity.put(f"/v3/projects/{self.id}/users/{self.admin.context.user_id}/roles/{role}")
        self.session = Session(load_config(probed.home), "admin", self.name)
        self.network = self.session.clients.network(self.session.context)
        self.compute = self.session.clients.compute(self.session.context)

    def network_quota(self, **limits: int) -> None:
        self.admin.clients.network(self.admin.context).put(f"/v2.0/quotas/{self.id}", {"quota": limits})

    def compute_quota(self, **limits: int) -> None:
        self.admin.clients.compute(self.admin.context).put(f"/v2.1/os-quota-sets/{self.id}", {"quota_set": limits})

    def network_used(self) -> dict[str, int]:
        details = self.admin.clients.network(self.admin.context).get(f"/v2.0/quotas/{self.id}/details.json")["quota"]
        return {resource: entry["used"] for resource, entry in details.items()}

    def compute_used(self) -> dict[str, int]:
        details = self.admin.clients.compute(self.admin.context).get(f"/v2.1/os-quota-sets/{self.id}/detail")["quota_set"]
        return {resource: details[resource]["in_use"] for resource in ("instances", "cores", "ram")}

    def servers(self) -> list[dict[str, Any]]:
        return self.compute.get("/v2.1/servers/detail", query={"limit": 1000})["servers"]

    def remove_servers(self) -> None:
        for server in self.servers():
            self.compute.delete(f"/v2.1/servers/{server['id']}")
        wait_until(lambda: not self.servers(), "every server is gone", 120)


@pytest.fixture
def project(crowded: Probed) -> Project:
    return Project(crowded)


def at_once(ask: Callable[[int], Any], clients: int = CLIENTS) -> tuple[list[Any], list[Failure]]:
    """`ask(number)` in so many threads that begin together: what was given, and the refusals."""
    given: list[Any] = []
    refused: list[Failure] = []
    broken: list[BaseException] = []
    start = threading.Barrier(clients)

    def one(number: int) -> None:
        start.wait()
        try:
            given.append(ask(number))
        except Failure as failure:
            refused.append(failure)
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken, broken
    assert len(given) + len(refused) == clients
    return given, refused


def answers(refused: list[Failure]) -> Counter[tuple[int, str]]:
    """How often which refusal came: status, and its type where the service names one, else its sentence."""
    return Counter((failure.status, _kind(failure)) for failure in refused)


def _kind(failure: Failure) -> str:
    body = getattr(failure, "body", None)
    error = body.get("NeutronError") if isinstance(body, dict) else None
    return error["type"] if isinstance(error, dict) else failure.message


def subnet(project: Project, first: int, last: int) -> tuple[str, str]:
    """A network with the addresses 10.99.0.first to last, and its subnet."""
    network = project.network.post("/v2.0/networks", {"network": {"name": "race"}})["network"]["id"]
    pools = [{"start": f"10.99.0.{first}", "end": f"10.99.0.{last}"}]
    body = {"network_id": network, "ip_version": 4, "cidr": "10.99.0.0/24", "enable_dhcp": False, "allocation_pools": pools}
    return network, project.network.post("/v2.0/subnets", {"subnet": body})["subnet"]["id"]


@pytest.mark.parametrize("free", [1, 10])
def test_the_last_addresses_of_a_subnet_are_given_once_each(project, free):
    network, _ = subnet(project, 10, 9 + free)
    made, refused = at_once(lambda _number: project.network.post("/v2.0/ports", {"port": {"network_id": network}}))
    addresses = sorted(answer["port"]["fixed_ips"][0]["ip_address"] for answer in made)
    assert addresses == sorted(f"10.99.0.{number}" for number in range(10, 10 + free))
    assert answers(refused) == {(409, "IpAddressGenerationFailure"): CLIENTS - free}
    assert project.network_used()["port"] == free
    for answer in made:
        project.network.delete(f"/v2.0/ports/{answer['port']['id']}")
    assert project.network_used()["port"] == 0


def test_one_named_address_is_given_once(project):
    network, _ = subnet(project, 10, 200)
    body = {"port": {"network_id": network, "fixed_ips": [{"ip_address": "10.99.0.77"}]}}
    made, refused = at_once(lambda _number: project.network.post("/v2.0/ports", body))
    assert len(made) == 1
    assert answers(refused) == {(409, "IpAddressAlreadyAllocated"): CLIENTS - 1}
    assert project.network_used()["port"] == 1


def test_the_last_ports_of_a_quota_are_given_once(project):
    network = project.network.post("/v2.0/networks", {"network": {"name": "race"}})["network"]["id"]
    project.network_quota(port=3)
    made, refused = at_once(lambda _number: project.network.post("/v2.0/ports", {"port": {"network_id": network}}))
    assert len(made) == 3
    assert answers(refused) == {(409, "OverQuota"): CLIENTS - 3}
    assert project.network_used()["port"] == 3
    assert len(project.network.get("/v2.0/ports", query={"project_id": project.id})["ports"]) == 3
    groups = project.network.get("/v2.0/security-groups", query={"project_id": project.id})["security_groups"]
    assert [group["name"] for group in groups] == ["default"], "the first ports of a project share one default group"


def test_the_last_networks_of_a_quota_are_given_once(project):
    project.network_quota(network=2)
    made, refused = at_once(lambda number: project.network.post("/v2.0/networks", {"network": {"name": f"race-{number}"}}))
    assert len(made) == 2
    assert answers(refused) == {(409, "OverQuota"): CLIENTS - 2}
    for answer in made:
        project.network.delete(f"/v2.0/networks/{answer['network']['id']}")
    assert project.network_used()["network"] == 0


def test_the_last_floating_ips_of_a_quota_are_given_once(project):
    project.network_quota(floatingip=2)
    external = project.network.get("/v2.0/networks", query={"name": "public"})["networks"][0]["id"]
    body = {"floatingip": {"floating_network_id": external}}
    made, refused = at_once(lambda _number: project.network.post("/v2.0/floatingips", body))
    assert len({answer["floatingip"]["floating_ip_address"] for answer in made}) == 2
    assert answers(refused) == {(409, "OverQuota"): CLIENTS - 2}
    for answer in made:
        project.network.delete(f"/v2.0/floatingips/{answer['floatingip']['id']}")
    assert project.network_used()["floatingip"] == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("limits", [{"instances": 3}, {"cores": 3}])
def test_the_last_servers_of_a_quota_are_given_once(crowded, project, limits):
    before = crowded.traces()
    project.compute_quota(**limits)
    body = {"name": "race", "imageRef": image(crowded), "flavorRef": "42", "networks": "none"}
    made, refused = at_once(lambda _number: project.compute.post("/v2.1/servers", {"server": body}, headers=NO_NETWORK))
    assert len(made) == 3, answers(refused)
    assert {failure.status for failure in refused} == {403}
    assert all("Quota exceeded for" in failure.message for failure in refused), answers(refused)
    assert project.compute_used() == {"instances": 3, "cores": 3, "ram": 3 * 128}
    project.remove_servers()
    assert project.compute_used() == {"instances": 0, "cores": 0, "ram": 0}
    wait_until(lambda: crowded.traces() == before, "nothing is left over", explain=lambda: f"{before}\n{crowded.traces()}")


@pytest.mark.timeout(300)
def test_the_last_room_of_a_host_is_given_once(crowded, project):
    before = crowded.traces()
    room = free_memory(crowded)
    body = {"name": f"third-{ids.new_id()[:8]}", "ram": room * 10 // 35, "vcpus": 1, "disk": 1}
    compute = crowded.session.clients.compute(crowded.session.context)
    flavor = compute.post("/v2.1/flavors", {"flavor": body})["flavor"]["id"]
    project.compute_quota(instances=-1, cores=-1, ram=-1)
    wanted = {"name": "race", "imageRef": image(crowded), "flavorRef": flavor, "networks": "none"}
    made, refused = at_once(lambda _number: project.compute.post("/v2.1/servers", {"server": wanted}, headers=NO_NETWORK))
    assert len(made) == CLIENTS, answers(refused)
    settled = lambda: all(server["status"] in {"ACTIVE", "ERROR"} for server in project.servers())  # noqa: E731
    wait_until(settled, "every server is ACTIVE or ERROR", 200, explain=lambda: str(Counter(s["status"] for s in project.servers())))
    servers = project.servers()
    assert Counter(server["status"] for server in servers) == {"ACTIVE": 3, "ERROR": CLIENTS - 3}, crowded.why(servers[:3])
    assert all("No valid host" in server["fault"]["message"] for server in servers if server["status"] == "ERROR")
    project.remove_servers()
    wait_until(lambda: crowded.traces() == before, "nothing is left over", explain=lambda: f"{before}\n{crowded.traces()}")


def image(probed: Probed) -> str:
    return probed.session.clients.image(probed.session.context).get("/v2/images", query={"name": "guest"})["images"][0]["id"]


def free_memory(probed: Probed) -> int:
    """MiB that the only host can still give to servers."""
    placement = probed.session.clients.placement(probed.session.context)
    provider = placement.get("/resource_providers")["resource_providers"][0]["uuid"]
    memory = placement.get(f"/resource_providers/{provider}/inventories")["inventories"]["MEMORY_MB"]
    used = placement.get(f"/resource_providers/{provider}/usages")["usages"]["MEMORY_MB"]
    return int((memory["total"] - memory["reserved"]) * memory["allocation_ratio"]) - used


UNIQUE = {
    "flavor": ("compute", "/v2.1/flavors", lambda name: {"flavor": {"name": name, "ram": 64, "vcpus": 1, "disk": 0}}),
    "user": ("identity", "/v3/users", lambda name: {"user": {"name": name, "domain_id": "default"}}),
    "project": ("identity", "/v3/projects", lambda name: {"project": {"name": name, "domain_id": "default"}}),
    "key pair": ("compute", "/v2.1/os-keypairs", lambda name: {"keypair": {"name": name, "public_key": PUBLIC_KEY}}),
    "image id": ("image", "/v2/images", lambda name: {"id": name, "name": name}),
    "resource provider": ("placement", "/resource_providers", lambda name: {"name": name}),
}


@pytest.mark.parametrize("what", sorted(UNIQUE))
def test_a_name_that_is_unique_is_given_once(crowded, what):
    service, path, body = UNIQUE[what]
    name = ids.new_uuid()
    peer = getattr(crowded.session.clients, service)(crowded.session.context)
    made, refused = at_once(lambda _number: peer.post(path, body(name)))
    assert len(made) == 1, answers(refused)
    assert {failure.status for failure in refused} == {409}, answers(refused)


@pytest.mark.timeout(300)
def test_a_cloud_on_mariadb_boots_and_deletes_a_server():
    with databases.cloud_url("mariadb") as url, ThrowAway(toml=f'[database]\nurl = "{url}"\n') as cloud:
        probed = Probed(cloud)
        before = probed.traces()
        project = Project(probed)
        network, _ = subnet(project, 10, 20)
        body = {"name": "smoke", "imageRef": image(probed), "flavorRef": "42", "networks": [{"uuid": network}]}
        server = project.compute.post("/v2.1/servers", {"server": body})["server"]["id"]
        status = lambda: project.compute.get(f"/v2.1/servers/{server}")["server"]["status"]  # noqa: E731
        wait_until(lambda: status() in {"ACTIVE", "ERROR"}, "the server is built", explain=lambda: probed.why([{"id": server}]))
        assert status() == "ACTIVE", probed.why([{"id": server}])
        project.remove_servers()
        wait_until(lambda: probed.traces() == before, "nothing is left over", explain=lambda: f"{before}\n{probed.traces()}")
        assert project.compute_used() == {"instances": 0, "cores": 0, "ram": 0}
        assert project.network_used()["port"] == 0
        assert json.loads(cloud.pileus("doctor", "--json").stdout)["findings"] == []
