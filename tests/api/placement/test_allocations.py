from __future__ import annotations

import pytest

from pileus.kernel.testing import SERVICE
from tests.api.placement.world import code, new


def test_a_consumer_claims_changes_and_gives_back(placement):
    a, b, consumer = placement.provider("a", VCPU=8, DISK_GB=10), placement.provider("b", VCPU=8), new()
    placement.claim(consumer, {a: {"VCPU": 2, "DISK_GB": 5}, b: {"VCPU": 1}})
    shown = placement("GET", f"/allocations/{consumer}", ok=200).json
    assert shown == {
        "allocations": {
            a: {"resources": {"DISK_GB": 5, "VCPU": 2}, "generation": 2},
            b: {"resources": {"VCPU": 1}, "generation": 2},
        },
        "project_id": "project",
        "user_id": "user",
        "consumer_generation": 1,
        "consumer_type": "INSTANCE",
    }
    placement.claim(consumer, {a: {"VCPU": 3}}, generation=1)
    assert placement.used(a) == {"VCPU": 3, "DISK_GB": 0}
    assert placement.used(b) == {"VCPU": 0}
    listed = placement("GET", f"/resource_providers/{a}/allocations", ok=200).json
    assert listed["allocations"] == {consumer: {"resources": {"VCPU": 3}, "consumer_generation": 2}}
    placement.claim(consumer, {}, generation=2)
    assert placement("GET", f"/allocations/{consumer}").json == {"allocations": {}}
    assert placement.used(a) == {"VCPU": 0, "DISK_GB": 0}


def test_a_consumer_generation_is_compared(placement):
    key, consumer = placement.provider("host", VCPU=8), new()
    assert code(placement.claim(consumer, {key: {"VCPU": 1}}, generation=3, ok=409)) == "placement.concurrent_update"
    placement.claim(consumer, {key: {"VCPU": 1}})
    for stale in (None, 0, 2):
        refused = placement.claim(consumer, {key: {"VCPU": 2}}, generation=stale, ok=409)
        assert code(refused) == "placement.concurrent_update"
    assert placement.used(key) == {"VCPU": 1}


def test_a_refused_claim_leaves_nothing_behind(placement):
    small, big, consumer = placement.provider("small", VCPU=1), placement.provider("big", VCPU=64), new()
    refused = placement.claim(consumer, {big: {"VCPU": 4}, small: {"VCPU": 2}}, ok=409)
    assert code(refused) == "placement.undefined_code"
    assert small in refused.json["errors"][0]["detail"]
    assert "exceed the capacity" in refused.json["errors"][0]["detail"]
    assert placement.used(big) == {"VCPU": 0}
    assert placement("GET", f"/allocations/{consumer}").json == {"allocations": {}}
    placement.claim(consumer, {big: {"VCPU": 4}})


def test_units_steps_ratios_and_reserves_count(placement):
    key = placement.provider(
        "host",
        VCPU={"total": 4, "allocation_ratio": 2.0, "reserved": 1},
        DISK_GB={"total": 100, "min_unit": 10, "max_unit": 50, "step_size": 5},
    )
    for amount in (5, 12, 55):
        placement.claim(new(), {key: {"DISK_GB": amount}}, ok=409)
    placement.claim(new(), {key: {"DISK_GB": 50}})
    placement.claim(new(), {key: {"VCPU": 7}}, ok=409)
    placement.claim(new(), {key: {"VCPU": 6}})
    placement.claim(new(), {key: {"VCPU": 1}}, ok=409)


def test_what_cannot_be_allocated_is_refused(placement):
    key = placement.provider("host", VCPU=4)
    placement.claim(new(), {new(): {"VCPU": 1}}, ok=400)
    placement.claim(new(), {key: {"CUSTOM_NOTHING": 1}}, ok=400)
    placement.claim(new(), {key: {"VGPU": 1}}, ok=409)
    placement("PUT", "/allocations/not-a-uuid", placement.body(None, {key: {"VCPU": 1}}), ok=400)
    placement("DELETE", f"/allocations/{new()}", ok=404)
    body = placement.body(None, {key: {"VCPU": 0}})
    placement("PUT", f"/allocations/{new()}", body, ok=400)


def test_a_move_swaps_two_consumers_at_once(placement):
    source, target = placement.provider("source", VCPU=4), placement.provider("target", VCPU=4)
    server, migration = new(), new()
    placement.claim(server, {source: {"VCPU": 4}})
    swap = {
        migration: placement.body(None, {source: {"VCPU": 4}}, kind="MIGRATION"),
        server: placement.body(1, {target: {"VCPU": 4}}),
    }
    placement("POST", "/allocations", swap, ok=204)
    assert placement.used(source) == placement.used(target) == {"VCPU": 4}
    back = {migration: placement.body(1, {}, kind="MIGRATION"), server: placement.body(2, {source: {"VCPU": 4}})}
    placement("POST", "/allocations", back, ok=204)
    assert placement.used(target) == {"VCPU": 0}
    assert placement("GET", f"/allocations/{migration}").json == {"allocations": {}}
    late = {server: placement.body(2, {target: {"VCPU": 4}}), migration: placement.body(None, {target: {"VCPU": 1}})}
    assert code(placement("POST", "/allocations", late, ok=409)) == "placement.concurrent_update"
    assert placement.used(target) == {"VCPU": 0}


def test_older_microversions_write_in_their_own_forms(placement):
    key = placement.provider("host", VCPU=8)
    consumer = new()
    listed = {"allocations": [{"resource_provider": {"uuid": key}, "resources": {"VCPU": 1}}]}
    placement("PUT", f"/allocations/{consumer}", listed, v="1.0", ok=204)
    shown = placement("GET", f"/allocations/{consumer}").json
    assert shown["project_id"] == shown["user_id"] == "00000000-0000-0000-0000-000000000000"
    assert shown["consumer_type"] == "unknown"
    named = {**listed, "project_id": "p", "user_id": "u"}
    placement("PUT", f"/allocations/{consumer}", named, v="1.8", ok=204)
    dictionary = {"allocations": {key: {"resources": {"VCPU": 2}}}, "project_id": "p", "user_id": "u"}
    placement("PUT", f"/allocations/{consumer}", dictionary, v="1.12", ok=204)
    shown = placement("GET", f"/allocations/{consumer}", v="1.12").json
    assert shown == {
        "allocations": {key: {"resources": {"VCPU": 2}, "generation": 4}}, "project_id": "p", "user_id": "u",
    }
    placement("PUT", f"/allocations/{consumer}", {**dictionary, "allocations": {}}, v="1.27", ok=400)
    placement("PUT", f"/allocations/{consumer}", dictionary, v="1.28", ok=400)
    placement("POST", "/allocations", {consumer: {**dictionary, "allocations": {}}}, v="1.13", ok=204)
    assert placement.used(key) == {"VCPU": 0}


def test_mappings_are_accepted_from_1_34_and_checked(placement):
    key, consumer = placement.provider("host", VCPU=8), new()
    body = {**placement.body(None, {key: {"VCPU": 1}}), "mappings": {"": [key]}}
    placement("PUT", f"/allocations/{consumer}", body, ok=204)
    placement("PUT", f"/allocations/{new()}", {**body, "mappings": {"a b": [key]}}, ok=400)
    del body["consumer_type"]
    placement("PUT", f"/allocations/{new()}", body, v="1.33", ok=400)


def test_usages_of_projects_and_users_by_consumer_type(placement):
    key = placement.provider("host", VCPU=32, DISK_GB=100)
    placement.claim(new(), {key: {"VCPU": 2, "DISK_GB": 5}})
    placement.claim(new(), {key: {"VCPU": 1}})
    placement("PUT", f"/allocations/{new()}", placement.body(None, {key: {"VCPU": 4}}, kind="MIGRATION"), ok=204)
    old = {"allocations": {key: {"resources": {"VCPU": 8}}}, "project_id": "project", "user_id": "somebody"}
    placement("PUT", f"/allocations/{new()}", {**old, "consumer_generation": None}, v="1.28", ok=204)

    def usages(query, v="1.39"):
        return placement("GET", f"/usages?{query}", v=v, ok=200).json["usages"]

    assert usages("project_id=project", v="1.9") == {"VCPU": 15, "DISK_GB": 5}
    assert usages("project_id=project&user_id=somebody", v="1.9") == {"VCPU": 8}
    assert usages("project_id=project") == {
        "INSTANCE": {"VCPU": 3, "DISK_GB": 5, "consumer_count": 2},
        "MIGRATION": {"VCPU": 4, "consumer_count": 1},
        "unknown": {"VCPU": 8, "consumer_count": 1},
    }
    assert usages("project_id=project&consumer_type=MIGRATION") == {"MIGRATION": {"VCPU": 4, "consumer_count": 1}}
    assert usages("project_id=project&consumer_type=all") == {"all": {"VCPU": 15, "DISK_GB": 5, "consumer_count": 4}}
    assert usages("project_id=nobody") == {}
    placement("GET", "/usages", ok=400)
    placement("GET", "/usages?project_id=project&consumer_type=all", v="1.37", ok=400)
    placement("GET", "/usages?project_id=project", v="1.8", ok=404)


def test_reshaping_moves_inventory_and_allocations_together(placement):
    host, consumer = placement.provider("host", VCPU=8, DISK_GB=10), new()
    numa = placement.provider("numa", parent=host)
    placement.claim(consumer, {host: {"VCPU": 4, "DISK_GB": 1}})
    body = {
        "inventories": {
            host: {"resource_provider_generation": placement.generation(host), "inventories": {"DISK_GB": {"total": 10}}},
            numa: {"resource_provider_generation": placement.generation(numa), "inventories": {"VCPU": {"total": 8}}},
        },
        "allocations": {consumer: placement.body(1, {host: {"DISK_GB": 1}, numa: {"VCPU": 4}})},
    }
    placement("POST", "/reshaper", body, ok=403)
    placement("POST", "/reshaper", body, as_=SERVICE, ok=204)
    assert placement.used(host) == {"DISK_GB": 1}
    assert placement.used(numa) == {"VCPU": 4}
    assert code(placement("POST", "/reshaper", body, as_=SERVICE, ok=409)) == "placement.concurrent_update"
    body["inventories"][host]["resource_provider_generation"] = 2**62
    assert code(placement("POST", "/reshaper", body, as_=SERVICE, ok=409)) == "placement.concurrent_update"


@pytest.mark.parametrize("broken", ["in use", "no such provider", "stale consumer"])
def test_a_refused_reshape_changes_nothing(placement, broken):
    host, consumer = placement.provider("host", VCPU=8), new()
    placement.claim(consumer, {host: {"VCPU": 4}})
    stock = {"resource_provider_generation": placement.generation(host), "inventories": {"DISK_GB": {"total": 10}}}
    body = {"inventories": {host: stock}, "allocations": {consumer: placement.body(1, {host: {"VCPU": 4}})}}
    expected = (409, "placement.inventory.inuse")
    if broken == "no such provider":
        body["inventories"][new()] = {"resource_provider_generation": 0, "inventories": {}}
        expected = (400, "placement.resource_provider.not_found")
    if broken == "stale consumer":
        body["allocations"][consumer]["consumer_generation"] = 7
        expected = (409, "placement.concurrent_update")
    refused = placement("POST", "/reshaper", body, as_=SERVICE)
    assert (refused.status, code(refused)) == expected
    assert placement.used(host) == {"VCPU": 4}
    assert placement.generation(host) == stock["resource_provider_generation"]
