"""Several requests at once, on every database: limits hold, names stay unique, one action wins."""

from __future__ import annotations

import concurrent.futures

import pytest

from pileus.kernel.testing import ADMIN
from tests.api.compute.test_keypairs import public_key
from tests.api.compute.world import IMAGE, World


@pytest.fixture
def world(database_url):
    made = World(db_url=database_url, quota_instances=3, quota_key_pairs=3)
    made.flavor()
    yield made
    made.close()


def at_once(count, ask):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return sorted(reply.status for reply in pool.map(ask, range(count)))


def test_quota_holds(world):
    body = {"server": {"name": "vm", "flavorRef": "small", "imageRef": IMAGE, "networks": "none"}}
    assert at_once(8, lambda _n: world("POST", "/servers", body, v="2.37")) == [202] * 3 + [403] * 5
    world.settle()
    used = world("GET", "/limits", ok=200).json["limits"]["absolute"]
    assert (used["totalInstancesUsed"], used["totalCoresUsed"]) == (3, 3)
    servers = world("GET", "/servers/detail", ok=200).json["servers"]
    assert [s["status"] for s in servers] == ["ACTIVE"] * 3
    for server in servers:
        world("DELETE", f"/servers/{server['id']}", ok=204)
    world.settle()
    assert world("GET", "/limits", ok=200).json["limits"]["absolute"]["totalInstancesUsed"] == 0


def test_key_pairs_are_counted_and_unique(world):
    key = public_key()
    same = at_once(4, lambda _n: world("POST", "/os-keypairs", {"keypair": {"name": "same", "public_key": key}}))
    assert same == [200, 409, 409, 409]
    more = at_once(5, lambda n: world("POST", "/os-keypairs", {"keypair": {"name": f"k{n}", "public_key": key}}))
    assert more == [200, 200, 403, 403, 403]


def test_names_of_flavors_and_aggregates_are_unique(world):
    body = {"flavor": {"name": "f", "ram": 1, "vcpus": 1, "disk": 1}}
    assert at_once(4, lambda _n: world("POST", "/flavors", body, as_=ADMIN)) == [200, 409, 409, 409]
    assert at_once(4, lambda _n: world("POST", "/os-aggregates", {"aggregate": {"name": "a"}}, as_=ADMIN)) == [200, 409, 409, 409]


def test_of_two_actions_one_wins(world):
    server_id = world.boot(networks="none")
    found = at_once(4, lambda _n: world("POST", f"/servers/{server_id}/action", {"os-stop": None}))
    assert found == [202, 409, 409, 409]
    world.settle()
    assert world.server(server_id)["status"] == "SHUTOFF"


def test_tags_and_metadata_of_one_server_are_not_lost(world):
    server_id = world.boot(networks="none")
    assert set(at_once(6, lambda n: world("PUT", f"/servers/{server_id}/tags/t{n}", v="2.26"))) == {201}
    assert set(at_once(6, lambda n: world("POST", f"/servers/{server_id}/metadata", {"metadata": {f"k{n}": "v"}}))) == {200}
    server = world.server(server_id)
    assert server["tags"] == [f"t{n}" for n in range(6)] and len(server["metadata"]) == 6


def test_lists_and_searches_work_here_too(world):
    server_id = world.boot("alpha", metadata={"a": "b"}, tags=["t"])
    for query in ("name=al", "name=%5Eal.*", "ip=10.0", "tags=t", "not-tags=x", "changes-since=2020-01-01T00:00:00Z", "status=ACTIVE",
                  "sort_key=launched_at&sort_dir=asc", "sort_key=display_description"):
        found = world("GET", f"/servers/detail?{query}", v="2.96", ok=200).json["servers"]
        assert [s["id"] for s in found] == [server_id], query
