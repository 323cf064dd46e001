"""How addresses and prefixes are chosen: decisions without a database."""

from __future__ import annotations

import ipaddress
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.network import errors
from pileus.network.logic import addresses, subnetpools, subnets


def networks(version: int) -> st.SearchStrategy:
    size = 32 if version == 4 else 128
    base = ipaddress.IPv4Address("10.0.0.0") if version == 4 else ipaddress.IPv6Address("fd00::")
    return st.builds(
        lambda offset, length: ipaddress.ip_network((int(base) + (offset << (size - 16)), length), strict=False),
        st.integers(0, 255),
        st.integers(size - 12, size - 1),
    )


ANY_NETWORK = networks(4) | networks(6)


def numbers(pools):
    return [n for pool in pools for n in range(int(ipaddress.ip_address(pool["start"])), int(ipaddress.ip_address(pool["end"])) + 1)]


@settings(max_examples=60, deadline=None)
@given(ANY_NETWORK, st.data())
def test_default_pools_hold_every_host_address_but_the_gateway(cidr, data):
    gateway = data.draw(st.sampled_from([None, str(cidr[data.draw(st.integers(0, cidr.num_addresses - 1))])]))
    found = numbers(subnets.default_pools(cidr, gateway))
    wanted = {int(a) for a in cidr}
    if cidr.version == 4 and cidr.prefixlen < 31:
        wanted -= {int(cidr.network_address), int(cidr.broadcast_address)}
    if cidr.version == 6 and cidr.prefixlen < 127:
        wanted -= {int(cidr.network_address)}
    if gateway:
        wanted.discard(int(ipaddress.ip_address(gateway)))
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert subnets.checked_pools(cidr, subnets.default_pools(cidr, gateway), gateway) == subnets.default_pools(cidr, gateway)


@settings(max_examples=60, deadline=None)
@given(networks(4), st.data())
def test_candidates_are_addresses_of_the_pools(cidr, data):
    pools = subnets.default_pools(cidr, None)
    subnet = addresses.Subnet(
        id="s", network_id="n", ip_version=4, cidr=str(cidr), gateway_ip=data.draw(st.sampled_from([None, pools[0]["start"]])),
        enable_dhcp=True, service_types=(),
        pools=tuple((int(ipaddress.ip_address(p["start"])), int(ipaddress.ip_address(p["end"]))) for p in pools),
    )  # fmt: skip
    found = addresses._candidates(subnet)
    assert len(found) == len(set(found))
    for address in found:
        assert subnet.holds(address)
        assert address != subnet.gateway_ip
        assert subnet.number(address) == int(ipaddress.ip_address(address)) - int(cidr.network_address)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 30)), max_size=12), st.integers(22, 32))
def test_a_free_prefix_overlaps_none_and_is_only_missing_when_there_is_none(used, length):
    pool = types.SimpleNamespace(ip_version=4, prefixes=["10.0.0.0/23", "10.0.4.0/24"], min_prefixlen=8, max_prefixlen=32)
    taken = [ipaddress.ip_network((int(ipaddress.IPv4Address("10.0.0.0")) + n * 8, size), strict=False) for n, size in used]
    free = [
        candidate
        for prefix in map(ipaddress.ip_network, pool.prefixes)
        if prefix.prefixlen <= length
        for candidate in prefix.subnets(new_prefix=length)
        if not any(candidate.overlaps(other) for other in taken)
    ]
    if not free:
        with pytest.raises(errors.SubnetAllocationError):
            subnetpools._free(pool, length, taken)
    else:
        assert subnetpools._free(pool, length, taken) == free[0]
