from __future__ import annotations

import pytest

from tests.api.placement.world import code, new


def test_a_provider_is_shown_with_the_links_its_microversion_knows(placement):
    key = new()
    made = placement("POST", "/resource_providers", {"name": "host1", "uuid": key}, ok=200)
    path = f"/placement/resource_providers/{key}"
    assert made.json == {
        "uuid": key,
        "name": "host1",
        "generation": 0,
        "links": [
            {"rel": "self", "href": path},
            {"rel": "inventories", "href": f"{path}/inventories"},
            {"rel": "usages", "href": f"{path}/usages"},
            {"rel": "aggregates", "href": f"{path}/aggregates"},
            {"rel": "traits", "href": f"{path}/traits"},
            {"rel": "allocations", "href": f"{path}/allocations"},
        ],
        "parent_provider_uuid": None,
        "root_provider_uuid": key,
    }
    assert made.headers["location"] == f"http://localhost:5000{path}"
    assert made.headers["cache-control"] == "no-cache"
    oldest = placement("GET", f"/resource_providers/{key}", v="1.0", ok=200)
    assert [link["rel"] for link in oldest.json["links"]] == ["self", "inventories", "usages"]
    assert "parent_provider_uuid" not in oldest.json
    assert "last-modified" not in oldest.headers


def test_making_a_provider_answers_201_without_body_below_1_20(placement):
    made = placement("POST", "/resource_providers", {"name": "host1"}, v="1.19", ok=201)
    assert made.body == b""
    assert made.headers["location"].startswith("http://localhost:5000/placement/resource_providers/")


def test_names_and_uuids_are_taken_once(placement):
    key = placement.provider("host1")
    again = placement("POST", "/resource_providers", {"name": "host1"}, ok=409)
    assert code(again) == "placement.duplicate_name"
    assert code(placement("POST", "/resource_providers", {"name": "x", "uuid": key}, ok=409)) == "placement.duplicate_name"
    other = placement.provider("host2")
    renamed = placement("PUT", f"/resource_providers/{other}", {"name": "host1"}, ok=409)
    assert code(renamed) == "placement.duplicate_name"


def test_a_provider_with_children_or_allocations_stays(placement):
    parent = placement.provider("parent")
    child = placement.provider("child", parent=parent, VCPU=4)
    assert code(placement("DELETE", f"/resource_providers/{parent}", ok=409)) == (
        "placement.resource_provider.cannot_delete_parent"
    )
    consumer = new()
    placement.claim(consumer, {child: {"VCPU": 1}})
    assert code(placement("DELETE", f"/resource_providers/{child}", ok=409)) == "placement.resource_provider.inuse"
    placement("DELETE", f"/allocations/{consumer}", ok=204)
    placement("DELETE", f"/resource_providers/{child}", ok=204)
    placement("DELETE", f"/resource_providers/{parent}", ok=204)
    placement("GET", f"/resource_providers/{parent}", ok=404)


def test_a_subtree_moves_with_its_top_from_1_37_on(placement):
    first, second = placement.provider("first"), placement.provider("second")
    middle = placement.provider("middle", parent=first)
    leaf = placement.provider("leaf", parent=middle)
    move = {"name": "middle", "parent_provider_uuid": second}
    placement("PUT", f"/resource_providers/{middle}", move, v="1.36", ok=400)
    placement("PUT", f"/resource_providers/{middle}", move, ok=200)
    assert placement("GET", f"/resource_providers/{leaf}").json["root_provider_uuid"] == second
    placement("PUT", f"/resource_providers/{middle}", {"name": "middle", "parent_provider_uuid": None}, ok=200)
    assert placement("GET", f"/resource_providers/{leaf}").json["root_provider_uuid"] == middle
    circle = {"name": "middle", "parent_provider_uuid": leaf}
    placement("PUT", f"/resource_providers/{middle}", circle, ok=400)


def test_providers_are_listed_by_every_filter(placement):
    aggregate, other = new(), new()
    a = placement.provider("a", traits=["HW_CPU_X86_AVX"], aggregates=[aggregate], VCPU=4)
    b = placement.provider("b", traits=["HW_CPU_X86_SSE"], aggregates=[aggregate, other], VCPU=16)
    c = placement.provider("c", parent=b, DISK_GB=10)

    def found(query, v="1.39"):
        return [one["uuid"] for one in placement("GET", f"/resource_providers?{query}", v=v, ok=200).json["resource_providers"]]

    assert found("") == [a, b, c]
    assert found("name=b") == [b]
    assert found(f"uuid={a}") == [a]
    assert found(f"in_tree={c}") == [b, c]
    assert found(f"in_tree={new()}") == []
    assert found("resources=VCPU:8") == [b]
    assert found("resources=VCPU:1,DISK_GB:1") == []
    assert found(f"member_of={aggregate}") == [a, b]
    assert found(f"member_of=in:{other},{new()}") == [b]
    assert found(f"member_of={aggregate}&member_of=!{other}") == [a]
    assert found("required=HW_CPU_X86_AVX") == [a]
    assert found("required=!HW_CPU_X86_AVX") == [b, c]
    assert found("required=in:HW_CPU_X86_AVX,HW_CPU_X86_SSE&required=!HW_CPU_X86_SSE") == [a]
    placement("GET", f"/resource_providers?in_tree={c}", v="1.13", ok=400)
    placement("GET", "/resource_providers?required=CUSTOM_NOBODY", ok=400)
    placement("GET", "/resource_providers?resources=CUSTOM_NOTHING:1", ok=400)
    placement("GET", "/resource_providers?resources=VCPU:0", ok=400)
    placement("GET", "/resource_providers?resources=VCPU", ok=400)
    placement("GET", "/resource_providers?colour=blue", ok=400)


def test_a_list_costs_the_same_statements_for_few_and_many(placement):
    for number in range(3):
        placement.provider(f"p{number}", VCPU=1)
    placement("GET", "/resource_providers")
    with placement.client.count_queries() as few:
        placement("GET", "/resource_providers", ok=200)
    for number in range(3, 30):
        placement.provider(f"p{number}", VCPU=1)
    placement("GET", "/resource_providers")
    with placement.client.count_queries() as many:
        placement("GET", "/resource_providers", ok=200)
    assert len(few) == len(many) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x" * 201},
        {"name": 5},
        {"name": "x", "uuid": "no"},
        {"name": "x", "colour": "blue"},
        {"name": "x", "parent_provider_uuid": "no"},
        {"name": "x", "parent_provider_uuid": "2f3cbb5c-3d2a-4d7e-b8b5-9a3c1ad9e1d0"},
        [],
    ],
)
def test_a_bad_provider_is_refused_with_400(placement, body):
    answer = placement("POST", "/resource_providers", body, ok=400)
    assert answer.json["errors"][0]["title"] == "Bad Request"


def test_versions_and_roots(placement):
    for path in ("", "/"):
        document = placement("GET", path, as_=None, ok=200).json
        assert document["versions"][0]["max_version"] == "1.39"
    placement("GET", "/resource_classes", v="1.0", ok=404)
    placement("GET", "/resource_providers", v="1.40", ok=406)
    placement("GET", "/resource_providers", v="fish", ok=400)
    answer = placement("GET", "/resource_providers", v="latest", ok=200)
    assert answer.headers["openstack-api-version"] == "placement 1.39"
