from __future__ import annotations

import pytest

from tests.api.placement.world import Placement, code, new

SHARES = "MISC_SHARES_VIA_AGGREGATE"


def as_set(candidates):
    return {frozenset((key, name, amount) for key, part in one.items() for name, amount in part.items()) for one in candidates}


def test_each_host_with_room_is_a_candidate(placement):
    a = placement.provider("a", VCPU=4, MEMORY_MB=1024, traits=["HW_CPU_X86_AVX"])
    placement.provider("b", VCPU=1, MEMORY_MB=1024)
    answer = placement("GET", "/allocation_candidates?resources=VCPU:2,MEMORY_MB:512", ok=200)
    assert answer.json == {
        "allocation_requests": [
            {"allocations": {a: {"resources": {"VCPU": 2, "MEMORY_MB": 512}}}, "mappings": {"": [a]}},
        ],
        "provider_summaries": {
            a: {
                "resources": {"MEMORY_MB": {"capacity": 1024, "used": 0}, "VCPU": {"capacity": 4, "used": 0}},
                "traits": ["HW_CPU_X86_AVX"],
                "parent_provider_uuid": None,
                "root_provider_uuid": a,
            }
        },
    }
    assert answer.headers["cache-control"] == "no-cache"


def test_the_forms_of_older_microversions(placement):
    a = placement.provider("a", VCPU=4, MEMORY_MB=1024)
    oldest = placement("GET", "/allocation_candidates?resources=VCPU:2", v="1.10", ok=200).json
    assert oldest == {
        "allocation_requests": [{"allocations": [{"resource_provider": {"uuid": a}, "resources": {"VCPU": 2}}]}],
        "provider_summaries": {a: {"resources": {"VCPU": {"capacity": 4, "used": 0}}}},
    }
    middle = placement("GET", "/allocation_candidates?resources=VCPU:2", v="1.28", ok=200).json
    assert middle["allocation_requests"] == [{"allocations": {a: {"resources": {"VCPU": 2}}}}]
    assert set(middle["provider_summaries"][a]) == {"resources", "traits"}
    assert set(middle["provider_summaries"][a]["resources"]) == {"VCPU", "MEMORY_MB"}
    placement("GET", "/allocation_candidates?resources=VCPU:2", v="1.9", ok=404)


def test_a_claim_is_seen_by_the_next_search(placement):
    a, consumer = placement.provider("a", VCPU=4), new()
    assert placement.candidates("resources=VCPU:3") == [{a: {"VCPU": 3}}]
    placement.claim(consumer, {a: {"VCPU": 2}})
    assert placement.candidates("resources=VCPU:3") == []
    placement("DELETE", f"/allocations/{consumer}", ok=204)
    assert placement.candidates("resources=VCPU:3") == [{a: {"VCPU": 3}}]
    placement.put(a, "inventories", {"inventories": {"VCPU": {"total": 2}}})
    assert placement.candidates("resources=VCPU:3") == []
    placement("DELETE", f"/resource_providers/{a}", ok=204)
    assert placement.candidates("resources=VCPU:1") == []


def test_shared_storage_is_combined_with_hosts_of_its_aggregate(placement):
    aggregate = new()
    near = placement.provider("near", aggregates=[aggregate], VCPU=4)
    own = placement.provider("own", aggregates=[aggregate], VCPU=4, DISK_GB=100)
    placement.provider("far", VCPU=4)
    disk = placement.provider("disk", traits=[SHARES], aggregates=[aggregate], DISK_GB=100)
    assert as_set(placement.candidates("resources=VCPU:1,DISK_GB:10")) == as_set(
        [
            {near: {"VCPU": 1}, disk: {"DISK_GB": 10}},
            {own: {"VCPU": 1, "DISK_GB": 10}},
            {own: {"VCPU": 1}, disk: {"DISK_GB": 10}},
        ]
    )
    assert as_set(placement.candidates(f"resources=VCPU:1,DISK_GB:10&in_tree={own}")) == as_set(
        [{own: {"VCPU": 1, "DISK_GB": 10}}]
    )
    assert len(placement.candidates("resources=DISK_GB:10")) == 2
    assert len(placement.candidates("resources=VCPU:1,DISK_GB:10&limit=2")) == 2


def test_trees_serve_together_from_1_29_on(placement):
    host = placement.provider("host", VCPU=4)
    pf1 = placement.provider("pf1", parent=host, traits=["HW_NIC_SRIOV"], SRIOV_NET_VF=2)
    pf2 = placement.provider("pf2", parent=host, SRIOV_NET_VF=2)
    query = "resources=VCPU:1,SRIOV_NET_VF:1"
    assert placement.candidates(query, v="1.28") == []
    both = [{host: {"VCPU": 1}, pf1: {"SRIOV_NET_VF": 1}}, {host: {"VCPU": 1}, pf2: {"SRIOV_NET_VF": 1}}]
    assert as_set(placement.candidates(query)) == as_set(both)
    assert as_set(placement.candidates(f"{query}&required=HW_NIC_SRIOV")) == as_set(both[:1])
    assert as_set(placement.candidates(f"{query}&required=!HW_NIC_SRIOV")) == as_set(both[1:])
    summaries = placement("GET", f"/allocation_candidates?{query}&limit=1").json["provider_summaries"]
    assert set(summaries) == {host, pf1, pf2}


def test_groups_with_suffixes_come_from_one_provider_each(placement):
    host = placement.provider("host", VCPU=4)
    pf1 = placement.provider("pf1", parent=host, traits=["HW_NIC_ACCEL_SSL"], SRIOV_NET_VF=2)
    pf2 = placement.provider("pf2", parent=host, SRIOV_NET_VF=1)
    query = "resources=VCPU:1&resources_A=SRIOV_NET_VF:1&required_A=HW_NIC_ACCEL_SSL&resources_B=SRIOV_NET_VF:1"
    placement("GET", f"/allocation_candidates?{query}", ok=400)
    apart = {host: {"VCPU": 1}, pf1: {"SRIOV_NET_VF": 1}, pf2: {"SRIOV_NET_VF": 1}}
    together = {host: {"VCPU": 1}, pf1: {"SRIOV_NET_VF": 2}}
    assert as_set(placement.candidates(f"{query}&group_policy=isolate")) == as_set([apart])
    assert as_set(placement.candidates(f"{query}&group_policy=none")) == as_set([apart, together])
    placement.claim(new(), {pf1: {"SRIOV_NET_VF": 1}})
    assert as_set(placement.candidates(f"{query}&group_policy=none")) == as_set([apart])
    mapped = placement("GET", f"/allocation_candidates?{query}&group_policy=none").json["allocation_requests"][0]
    assert mapped["mappings"] == {"": [host], "_A": [pf1], "_B": [pf2]}


def test_the_same_subtree_and_the_root(placement):
    host = placement.provider("host", traits=["COMPUTE_NODE"])
    numa = [placement.provider(f"numa{n}", parent=host, traits=["HW_NUMA_ROOT"], VCPU=4) for n in (0, 1)]
    gpu = [placement.provider(f"gpu{n}", parent=numa[n], VGPU=1) for n in (0, 1)]
    query = "resources_C=VCPU:1&resources_G=VGPU:1&group_policy=none"
    assert len(placement.candidates(query)) == 4
    tied = [{numa[n]: {"VCPU": 1}, gpu[n]: {"VGPU": 1}} for n in (0, 1)]
    assert as_set(placement.candidates(f"{query}&same_subtree=_C,_G")) == as_set(tied)
    loose = "resources_G=VGPU:1&required_N=HW_NUMA_ROOT&same_subtree=_N,_G&group_policy=none"
    assert as_set(placement.candidates(loose)) == as_set([{key: {"VGPU": 1}} for key in gpu])
    assert len(placement.candidates(f"{query}&root_required=COMPUTE_NODE,!HW_NUMA_ROOT")) == 4
    assert placement.candidates(f"{query}&root_required=!COMPUTE_NODE") == []


def test_aggregates_of_a_root_span_its_tree_for_the_group_without_suffix_only(placement):
    aggregate, other = new(), new()
    host = placement.provider("host", aggregates=[aggregate])
    child = placement.provider("child", parent=host, aggregates=[other], VCPU=4)
    one = [{child: {"VCPU": 1}}]
    assert placement.candidates(f"resources=VCPU:1&member_of={aggregate}") == one
    assert placement.candidates(f"resources1=VCPU:1&member_of1={aggregate}") == []
    assert placement.candidates(f"resources1=VCPU:1&member_of1={other}") == one
    assert placement.candidates(f"resources=VCPU:1&member_of=in:{aggregate},{new()}&member_of=!{new()}") == one
    assert placement.candidates(f"resources=VCPU:1&member_of=!in:{aggregate},{new()}") == []


def test_a_limit_may_take_trees_in_turn():
    placement = Placement(options={"allocation_candidates_generation_strategy": "breadth-first"})
    roots = [placement.provider(f"host{n}", VCPU=4) for n in range(2)]
    for n, root in enumerate(roots):
        for m in range(3):
            placement.provider(f"pf{n}{m}", parent=root, SRIOV_NET_VF=1)
    found = placement.candidates("resources=VCPU:1,SRIOV_NET_VF:1&limit=2")
    assert [next(iter(one)) for one in found] == roots
    placement.client.close()


def test_the_operator_bounds_every_answer():
    placement = Placement(options={"max_allocation_candidates": 2})
    for n in range(4):
        placement.provider(f"host{n}", VCPU=4)
    assert len(placement.candidates("resources=VCPU:1")) == 2
    assert len(placement.candidates("resources=VCPU:1&limit=3")) == 2
    placement.client.close()


@pytest.mark.parametrize(
    ("query", "v", "expected"),
    [
        ("", "1.39", "placement.query.missing_value"),
        ("resources=", "1.39", "placement.query.bad_value"),
        ("resources=VCPU", "1.39", "placement.query.bad_value"),
        ("resources=VCPU:-1", "1.39", "placement.query.bad_value"),
        ("resources=VCPU:x", "1.39", "placement.query.bad_value"),
        ("resources=FISH:1", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&required=FISH", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&required=", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&required=in:A,!B", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&required=in:HW_NUMA_ROOT", "1.38", "placement.undefined_code"),
        ("resources=VCPU:1&required=!HW_NUMA_ROOT", "1.21", None),
        ("resources=VCPU:1&required=HW_NUMA_ROOT,!HW_NUMA_ROOT", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&member_of=x", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&member_of=!4f6e5a4e-b0a7-4a0c-9d8a-0f9b0c2f8a11", "1.31", "placement.undefined_code"),
        ("resources=VCPU:1&in_tree=x", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&limit=0", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&limit=5", "1.15", None),
        ("resources=VCPU:1&group_policy=both", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&root_required=A&root_required=B", "1.39", "placement.query.duplicate_key"),
        ("resources=VCPU:1&root_required=", "1.39", "placement.query.bad_value"),
        ("resources=VCPU:1&same_subtree=_X", "1.39", "placement.query.bad_value"),
        ("resources=VCPU:1&resources_A=VCPU:1&same_subtree=_A,", "1.39", "placement.query.bad_value"),
        ("resources=VCPU:1&required_A=HW_NUMA_ROOT", "1.39", "placement.query.bad_value"),
        ("resources=VCPU:1&required2=HW_NUMA_ROOT", "1.33", "placement.query.bad_value"),
        ("required=HW_NUMA_ROOT", "1.36", "placement.query.missing_value"),
        ("resources=VCPU:1&colour=blue", "1.39", "placement.undefined_code"),
        ("resources=VCPU:1&resources@=VCPU:1", "1.39", "placement.undefined_code"),
    ],
)
def test_a_bad_query_is_refused_with_its_code(placement, query, v, expected):
    answer = placement("GET", f"/allocation_candidates?{query}", v=v, ok=400)
    if expected:
        assert code(answer) == expected
