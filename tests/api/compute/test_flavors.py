"""Flavors, extra specs and access."""

from __future__ import annotations

import pytest

from pileus.kernel.testing import ADMIN, MEMBER, OTHER, PROJECT
from tests.api.compute.world import World, new


@pytest.fixture
def bare():
    made = World(hosts=0)
    yield made
    made.close()


def test_a_flavor_has_upstreams_shape(bare):
    body = {"flavor": {"id": "f1", "name": "m1", "ram": 512, "vcpus": 2, "disk": 10, "swap": 0, "OS-FLV-EXT-DATA:ephemeral": 1}}
    made = bare("POST", "/flavors", body, as_=ADMIN, ok=200).json["flavor"]
    links = [{"rel": "self", "href": "http://localhost:5000/compute/v2.1/flavors/f1"}, {"rel": "bookmark", "href": "http://localhost:5000/compute/flavors/f1"}]
    assert made == {"id": "f1", "name": "m1", "ram": 512, "vcpus": 2, "disk": 10, "swap": "", "OS-FLV-EXT-DATA:ephemeral": 1, "OS-FLV-DISABLED:disabled": False,
                    "os-flavor-access:is_public": True, "rxtx_factor": 1.0, "links": links}
    assert bare("GET", "/flavors/f1", ok=200).json["flavor"] == made
    assert bare("GET", "/flavors/f1", v="2.75").json["flavor"]["swap"] == 0
    assert bare("GET", "/flavors/f1", v="2.61").json["flavor"]["extra_specs"] == {}
    assert "description" not in made and bare("GET", "/flavors/f1", v="2.55").json["flavor"]["description"] is None
    assert bare("GET", "/flavors", ok=200).json["flavors"] == [{"id": "f1", "name": "m1", "links": links}]


def test_names_and_ids_are_unique(bare):
    bare.flavor("a")
    taken = bare("POST", "/flavors", {"flavor": {"id": "a", "name": "b", "ram": 1, "vcpus": 1, "disk": 0}}, as_=ADMIN, ok=409)
    assert taken.json["conflictingRequest"]["message"] == "Flavor with ID a already exists."
    taken = bare("POST", "/flavors", {"flavor": {"name": "a", "ram": 1, "vcpus": 1, "disk": 0}}, as_=ADMIN, ok=409)
    assert taken.json["conflictingRequest"]["message"] == "Flavor with name a already exists."


@pytest.mark.parametrize("change", [{"ram": 0}, {"ram": "x"}, {"vcpus": 0}, {"disk": -1}, {"name": ""}, {"name": "a" * 256}, {"id": "b@d"}, {"rxtx_factor": 0},
                                    {"swap": -1}, {"os-flavor-access:is_public": "maybe"}, {"more": 1}, {"ram": 2**31}, {"vcpus": "99999999999"}, {"description": "x"}])
def test_bad_flavors_are_refused(bare, change):
    bare("POST", "/flavors", {"flavor": {"name": "n", "ram": 1, "vcpus": 1, "disk": 0, **change}}, as_=ADMIN, ok=400)


def test_lists_sort_filter_and_page(bare):
    for name, ram in (("a", 100), ("b", 200), ("c", 300)):
        bare.flavor(name, ram=ram, disk=ram // 100)
    def ids(query):
        return [f["id"] for f in bare("GET", f"/flavors?{query}", ok=200).json["flavors"]]
    assert ids("") == ["a", "b", "c"]
    assert ids("minRam=200") == ["b", "c"] and ids("minDisk=3") == ["c"]
    assert ids("sort_key=memory_mb&sort_dir=desc") == ["c", "b", "a"]
    page = bare("GET", "/flavors/detail?limit=2", ok=200).json
    assert [f["id"] for f in page["flavors"]] == ["a", "b"] and "marker=b" in page["flavors_links"][0]["href"]
    assert ids("limit=2&marker=b") == ["c"]
    for query in ("marker=zz", "limit=x", "minRam=x", "sort_key=zz", "sort_dir=up", "limit=-1"):
        bare("GET", f"/flavors?{query}", ok=400)
    bare("GET", "/flavors?zz=1", v="2.75", ok=400)


def test_private_flavors_are_for_their_projects(bare):
    bare.flavor("secret", **{"os-flavor-access:is_public": False})
    bare("GET", "/flavors/secret", ok=404)
    assert bare("GET", "/flavors", ok=200).json["flavors"] == []
    assert [f["id"] for f in bare("GET", "/flavors?is_public=None", as_=ADMIN, ok=200).json["flavors"]] == ["secret"]
    given = bare("POST", "/flavors/secret/action", {"addTenantAccess": {"tenant": PROJECT}}, as_=ADMIN, ok=200).json
    assert {"flavor_id": "secret", "tenant_id": PROJECT} in given["flavor_access"]
    bare("POST", "/flavors/secret/action", {"addTenantAccess": {"tenant": PROJECT}}, as_=ADMIN, ok=409)
    bare("GET", "/flavors/secret", as_=MEMBER, ok=200)
    bare("GET", "/flavors/secret", as_=OTHER, ok=404)
    bare("POST", "/flavors/secret/action", {"addTenantAccess": {"tenant": "f" * 32}}, as_=ADMIN, ok=400)
    bare("POST", "/flavors/secret/action", {"removeTenantAccess": {"tenant": PROJECT}}, as_=ADMIN, ok=200)
    bare("POST", "/flavors/secret/action", {"removeTenantAccess": {"tenant": PROJECT}}, as_=ADMIN, ok=404)
    bare.flavor("open")
    bare("GET", "/flavors/open/os-flavor-access", as_=ADMIN, ok=404)
    bare("POST", "/flavors/open/action", {"addTenantAccess": {"tenant": PROJECT}}, as_=ADMIN, v="2.7", ok=409)


def test_extra_specs(bare):
    bare.flavor("f")
    path = "/flavors/f/os-extra_specs"
    assert bare("POST", path, {"extra_specs": {"a": "1", "b": 2}}, as_=ADMIN, ok=200).json == {"extra_specs": {"a": "1", "b": "2"}}
    assert bare("GET", path, ok=200).json == {"extra_specs": {"a": "1", "b": "2"}}
    assert bare("PUT", f"{path}/a", {"a": "3"}, as_=ADMIN, ok=200).json == {"a": "3"}
    bare("PUT", f"{path}/a", {"b": "3"}, as_=ADMIN, ok=400)
    assert bare("GET", f"{path}/a", ok=200).json == {"a": "3"}
    bare("DELETE", f"{path}/a", as_=ADMIN, ok=200)
    bare("GET", f"{path}/a", ok=404)
    bare("DELETE", f"{path}/a", as_=ADMIN, ok=404)
    bare("POST", path, {"extra_specs": {"hw:cpu_policy": "odd"}}, as_=ADMIN, v="2.86", ok=400)
    bare("POST", path, {"extra_specs": {"hw:cpu_policy": "shared", "own": "x"}}, as_=ADMIN, v="2.86", ok=200)


def test_description_and_deletion(bare):
    bare.flavor("f")
    assert bare("PUT", "/flavors/f", {"flavor": {"description": "d"}}, as_=ADMIN, v="2.55", ok=200).json["flavor"]["description"] == "d"
    bare("PUT", "/flavors/f", {"flavor": {"description": "d"}}, as_=ADMIN, v="2.54", ok=404)
    bare("DELETE", "/flavors/f", as_=ADMIN, ok=202)
    gone = bare("GET", "/flavors/f", ok=404)
    assert gone.json["itemNotFound"]["message"] == "Flavor f could not be found."
    bare("DELETE", f"/flavors/{new()}", as_=ADMIN, ok=404)
