"""The choice of a host is a pure decision."""

from __future__ import annotations

import pytest

from pileus.compute.logic import scheduler
from pileus.compute.logic.scheduler import HostState, Wish
from pileus.compute.options import Options


def host(name, **values):
    base = {"node": name, "provider": name, "up": True, "enabled": True, "zone": "nova", "free_vcpus": 10, "free_memory_mb": 1000, "free_disk_gb": 10}
    return HostState(host=name, **{**base, **values})


def names(wish, *hosts):
    return [state.host for state in scheduler.choose(Options(), wish, hosts).hosts]


def test_the_freest_host_comes_first():
    assert names(Wish(), host("a", free_memory_mb=100), host("b", free_memory_mb=900)) == ["b", "a"]


def test_negative_weights_pack():
    options = Options(cpu_weight=-1.0, ram_weight=-1.0, disk_weight=-1.0)
    full, empty = host("full", free_memory_mb=100, free_vcpus=1, free_disk_gb=1), host("empty")
    assert [state.host for state in scheduler.choose(options, Wish(), [empty, full]).hosts] == ["full", "empty"]


def test_equal_hosts_keep_their_order():
    assert names(Wish(), host("b"), host("a")) == ["b", "a"]


def test_hosts_in_work_are_spared():
    assert names(Wish(), host("a", in_work=5), host("b")) == ["b", "a"]


@pytest.mark.parametrize(
    ("wish", "state", "word"),
    [
        (Wish(tried=frozenset({"a"})), {}, "tried"),
        (Wish(ignored=frozenset({"a"})), {}, "leave"),
        (Wish(host="b"), {}, "asked for"),
        (Wish(zone="east"), {}, "zone"),
        (Wish(), {"up": False}, "reported"),
        (Wish(), {"enabled": False, "disabled_reason": "mending"}, "mending"),
        (Wish(image_properties={"hw_architecture": "aarch64"}), {}, "aarch64"),
        (Wish(image_properties={"img_hv_type": "xen"}), {}, "xen"),
        (Wish(extra_specs={"aggregate_instance_extra_specs:ssd": "true"}), {}, "ssd"),
        (Wish(extra_specs={"capabilities:hypervisor_version": ">= 9000000"}), {"hypervisor_version": 8}, "hypervisor_version"),
        (Wish(hints={"different_host": ["s1"]}), {"servers": frozenset({"s1"})}, "different_host"),
        (Wish(hints={"same_host": "s2"}), {"servers": frozenset({"s1"})}, "same_host"),
        (Wish(policy="anti-affinity", group_members=frozenset({"s1"})), {"servers": frozenset({"s1"})}, "anti-affinity"),
    ],
)
def test_a_refused_host_has_a_reason(wish, state, word):
    choice = scheduler.choose(Options(), wish, [host("a", **state)])
    assert choice.hosts == [] and word in choice.refused["a"]


def test_soft_policies_order_and_do_not_refuse():
    crowded, empty = host("a", servers=frozenset({"s1"})), host("b")
    assert names(Wish(policy="soft-anti-affinity", group_members=frozenset({"s1"})), crowded, empty) == ["b", "a"]
    assert names(Wish(policy="soft-affinity", group_members=frozenset({"s1"})), empty, crowded) == ["a", "b"]


def test_anti_affinity_may_allow_several():
    wish = Wish(policy="anti-affinity", max_server_per_host=2, group_members=frozenset({"s1", "s2"}))
    assert names(wish, host("a", servers=frozenset({"s1"}))) == ["a"]
    assert names(wish, host("a", servers=frozenset({"s1", "s2"}))) == []


@pytest.mark.parametrize(
    ("value", "wanted", "fitting"),
    [("4", "= 4", True), ("8", ">= 4", True), ("2", ">= 4", False), ("x", "s== x", True), ("x", "<or> y <or> x", True), ("abc", "<in> b", True),
     ("x", "x", True), ("x", "y", False), ("x", ">= 4", False), ("a b", "<all-in> a b", True)],
)
def test_the_language_of_extra_specs(value, wanted, fitting):
    assert scheduler.fits(value, wanted) is fitting


def test_resources_follow_the_flavor_and_its_overrides():
    flavor = {"vcpus": 2, "memory_mb": 512, "root_gb": 1, "ephemeral_gb": 1, "swap": 100, "extra_specs": {}}
    assert scheduler.resources_of(flavor) == {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 3}
    flavor["extra_specs"] = {"resources:VCPU": "0", "resources:CUSTOM_GPU": "1"}
    assert scheduler.resources_of(flavor) == {"MEMORY_MB": 512, "DISK_GB": 3, "CUSTOM_GPU": 1}


def test_traits_come_from_flavor_and_image():
    flavor = {"extra_specs": {"trait:CUSTOM_A": "required"}}
    assert scheduler.traits_of(flavor, {"properties": {"trait:CUSTOM_B": "forbidden"}}) == ["!CUSTOM_B", "CUSTOM_A"]
