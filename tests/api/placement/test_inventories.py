from __future__ import annotations

import pytest

from tests.api.placement.world import code, new

DEFAULTS = {"reserved": 0, "min_unit": 1, "max_unit": 2147483647, "step_size": 1, "allocation_ratio": 1.0}


def test_inventories_are_replaced_as_a_whole_and_guarded_by_the_generation(placement):
    key = placement.provider("host", VCPU=4, DISK_GB=10)
    body = {"resource_provider_generation": 1, "inventories": {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 512}}}
    made = placement("PUT", f"/resource_providers/{key}/inventories", body, ok=200)
    assert made.json == {
        "resource_provider_generation": 2,
        "inventories": {"VCPU": {"total": 8, **DEFAULTS}, "MEMORY_MB": {"total": 512, **DEFAULTS}},
    }
    shown = placement("GET", f"/resource_providers/{key}/inventories", ok=200)
    assert shown.json == made.json
    stale = placement("PUT", f"/resource_providers/{key}/inventories", body, ok=409)
    assert code(stale) == "placement.concurrent_update"


def test_one_inventory_is_added_changed_shown_and_deleted(placement):
    key = placement.provider("host")
    path = f"/resource_providers/{key}/inventories"
    added = placement("POST", path, {"resource_class": "VCPU", "total": 4}, ok=201)
    assert added.headers["location"].endswith(f"{path}/VCPU")
    generation = added.json["resource_provider_generation"]
    assert code(placement("POST", path, {"resource_class": "VCPU", "total": 4}, ok=409)) == "placement.concurrent_update"
    change = {"resource_provider_generation": generation, "total": 6, "reserved": 2}
    assert placement("PUT", f"{path}/VCPU", change, ok=200).json == {
        **DEFAULTS, "total": 6, "reserved": 2, "resource_provider_generation": generation + 1,
    }
    assert code(placement("PUT", f"{path}/VCPU", change, ok=409)) == "placement.concurrent_update"
    placement("PUT", f"{path}/VGPU", {**change, "resource_provider_generation": generation + 1}, ok=400)
    placement("GET", f"{path}/VGPU", ok=404)
    placement("DELETE", f"{path}/VGPU", ok=404)
    placement("DELETE", f"{path}/CUSTOM_NOTHING", ok=404)
    placement("DELETE", f"{path}/VCPU", ok=204)
    assert placement("GET", path).json["inventories"] == {}


def test_what_is_in_use_cannot_be_taken_away(placement):
    key = placement.provider("host", VCPU=4, DISK_GB=5)
    placement.claim(new(), {key: {"VCPU": 1}})
    path = f"/resource_providers/{key}/inventories"
    generation = placement.generation(key)
    without = {"resource_provider_generation": generation, "inventories": {"DISK_GB": {"total": 5}}}
    for refused in (
        placement("PUT", path, without, ok=409),
        placement("DELETE", path, ok=409),
        placement("DELETE", f"{path}/VCPU", ok=409),
    ):
        assert code(refused) == "placement.inventory.inuse"
    assert placement.generation(key) == generation
    assert set(placement("GET", path).json["inventories"]) == {"VCPU", "DISK_GB"}


def test_a_capacity_may_shrink_below_what_is_used(placement):
    key = placement.provider("host", VCPU=4)
    consumer = new()
    placement.claim(consumer, {key: {"VCPU": 3}})
    placement.put(key, "inventories", {"inventories": {"VCPU": {"total": 2}}})
    placement.claim(new(), {key: {"VCPU": 1}}, ok=409)
    placement.claim(consumer, {key: {"VCPU": 4}}, generation=1, ok=409)
    placement.claim(consumer, {key: {"VCPU": 3}}, generation=1)
    placement.claim(consumer, {key: {"VCPU": 1}}, generation=2)
    assert placement.used(key) == {"VCPU": 1}


def test_reserving_everything_is_allowed_from_1_26_on(placement):
    key = placement.provider("host", VCPU=4)
    body = {"resource_provider_generation": 1, "total": 4, "reserved": 4}
    placement("PUT", f"/resource_providers/{key}/inventories/VCPU", body, v="1.25", ok=400)
    placement("PUT", f"/resource_providers/{key}/inventories/VCPU", body, v="1.26", ok=200)
    more = {"resource_provider_generation": 2, "total": 4, "reserved": 5}
    placement("PUT", f"/resource_providers/{key}/inventories/VCPU", more, ok=400)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"total": 0},
        {"total": -1},
        {"total": 2147483648},
        {"total": "4"},
        {"total": 4, "step_size": 0},
        {"total": 4, "min_unit": 0},
        {"total": 4, "allocation_ratio": 3.40283e38},
        {"total": 4, "colour": "blue"},
        None,
    ],
)
def test_a_bad_inventory_is_refused_with_400(placement, row):
    key = placement.provider("host")
    body = {"resource_provider_generation": 1, "inventories": {"VCPU": row}}
    placement("PUT", f"/resource_providers/{key}/inventories", body, ok=400)
    body = {"resource_provider_generation": 1, "inventories": {"CUSTOM_NOTHING": {"total": 1}}}
    placement("PUT", f"/resource_providers/{key}/inventories", body, ok=400)


def test_traits_of_a_provider(placement):
    key = placement.provider("host")
    path = f"/resource_providers/{key}/traits"
    placement("PUT", "/traits/CUSTOM_GOLD", ok=201)
    body = {"resource_provider_generation": 1, "traits": ["CUSTOM_GOLD", "HW_CPU_X86_AVX"]}
    made = placement("PUT", path, body, ok=200)
    assert made.json == {"resource_provider_generation": 2, "traits": ["HW_CPU_X86_AVX", "CUSTOM_GOLD"]}
    assert placement("GET", path).json == made.json
    assert code(placement("PUT", path, body, ok=409)) == "placement.concurrent_update"
    same = {**body, "resource_provider_generation": 2}
    assert placement("PUT", path, same, ok=200).json["resource_provider_generation"] == 2
    placement("PUT", path, {"resource_provider_generation": 2, "traits": ["CUSTOM_TIN"]}, ok=400)
    placement("DELETE", "/traits/CUSTOM_GOLD", ok=409)
    placement("DELETE", path, ok=204)
    placement("DELETE", "/traits/CUSTOM_GOLD", ok=204)
    placement("DELETE", "/traits/CUSTOM_GOLD", ok=404)


def test_aggregates_of_a_provider_with_and_without_generation(placement):
    key, first, second = placement.provider("host"), new(), new()
    path = f"/resource_providers/{key}/aggregates"
    assert placement("PUT", path, [first], v="1.1", ok=200).json == {"aggregates": [first]}
    body = {"resource_provider_generation": 1, "aggregates": [second]}
    assert placement("PUT", path, body, ok=200).json == {"aggregates": [second], "resource_provider_generation": 2}
    assert code(placement("PUT", path, body, ok=409)) == "placement.concurrent_update"
    placement("GET", path, v="1.0", ok=404)
    placement("PUT", path, ["no"], v="1.1", ok=400)
    assert placement("GET", path, v="1.1").json == {"aggregates": [second]}


def test_the_catalogue_of_traits(placement):
    placement("PUT", "/traits/CUSTOM_A", ok=201)
    placement("PUT", "/traits/CUSTOM_A", ok=204)
    placement("PUT", "/traits/GOLD", ok=400)
    placement("PUT", "/traits/CUSTOM_" + "A" * 255, ok=400)
    placement("DELETE", "/traits/HW_CPU_X86_AVX", ok=400)
    placement("GET", "/traits/HW_CPU_X86_AVX", ok=204)
    placement("GET", "/traits/CUSTOM_B", ok=404)
    placement.provider("host", traits=["CUSTOM_A"])

    def names(query):
        return placement("GET", f"/traits?{query}", ok=200).json["traits"]

    assert names("name=startswith:CUSTOM") == ["CUSTOM_A"]
    assert names("name=in:CUSTOM_A,CUSTOM_B,HW_CPU_X86_AVX") == ["HW_CPU_X86_AVX", "CUSTOM_A"]
    assert names("associated=true") == ["CUSTOM_A"]
    assert "CUSTOM_A" not in names("associated=false")
    placement("GET", "/traits?associated=maybe", ok=400)
    placement("GET", "/traits?name=CUSTOM_A", ok=400)
    placement("GET", "/traits", v="1.5", ok=404)


def test_the_catalogue_of_resource_classes(placement):
    made = placement("POST", "/resource_classes", {"name": "CUSTOM_A"}, ok=201)
    assert made.headers["location"].endswith("/resource_classes/CUSTOM_A")
    placement("POST", "/resource_classes", {"name": "CUSTOM_A"}, ok=409)
    placement("POST", "/resource_classes", {"name": "VCPU"}, ok=400)
    placement("PUT", "/resource_classes/CUSTOM_A", ok=204)
    placement("PUT", "/resource_classes/CUSTOM_B", ok=201)
    placement("PUT", "/resource_classes/FISH", ok=400)
    assert placement("GET", "/resource_classes/CUSTOM_A", ok=200).json == {
        "name": "CUSTOM_A",
        "links": [{"rel": "self", "href": "/placement/resource_classes/CUSTOM_A"}],
    }
    names = [one["name"] for one in placement("GET", "/resource_classes").json["resource_classes"]]
    assert names[:3] == ["VCPU", "MEMORY_MB", "DISK_GB"]
    assert names[-2:] == ["CUSTOM_A", "CUSTOM_B"]
    placement("DELETE", "/resource_classes/VCPU", ok=400)
    placement("DELETE", "/resource_classes/CUSTOM_C", ok=404)
    key = placement.provider("host", CUSTOM_A=3)
    placement("DELETE", "/resource_classes/CUSTOM_A", ok=409)
    placement("DELETE", f"/resource_providers/{key}", ok=204)
    placement("DELETE", "/resource_classes/CUSTOM_A", ok=204)


def test_renaming_a_class_in_use_renames_it_everywhere(placement):
    placement("PUT", "/resource_classes/CUSTOM_OLD", ok=201)
    key, consumer = placement.provider("host", CUSTOM_OLD=3), new()
    placement.claim(consumer, {key: {"CUSTOM_OLD": 2}})
    assert placement.candidates("resources=CUSTOM_OLD:1")
    placement("PUT", "/resource_classes/CUSTOM_OLD", {"name": "CUSTOM_NEW"}, v="1.6", ok=200)
    assert placement.used(key) == {"CUSTOM_NEW": 2}
    assert placement("GET", f"/allocations/{consumer}").json["allocations"][key]["resources"] == {"CUSTOM_NEW": 2}
    assert placement.candidates("resources=CUSTOM_NEW:1") == [{key: {"CUSTOM_NEW": 1}}]
    placement("PUT", "/resource_classes/VCPU", {"name": "CUSTOM_X"}, v="1.6", ok=400)
    placement("PUT", "/resource_classes/CUSTOM_GONE", {"name": "CUSTOM_X"}, v="1.6", ok=404)
