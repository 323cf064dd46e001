"""How documents of the controller become the state of a host."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from pileus.network.drivers.base import HostState, Touched
from pileus.network.wire import Desired, Gone, GroupItem, from_dict, to_dict
from tests.contracts.network_world import a_network, a_port


def test_only_what_differs_is_touched() -> None:
    state, network = HostState(), a_network()
    port = a_port(network, "10.1.0.5")
    state.merge(Desired(version=1, full=True, networks=(network,), ports=(port,)))
    changed = dataclasses.replace(port, admin_state_up=False)
    touched = state.merge(Desired(version=2, networks=(network,), ports=(changed,)))
    assert touched == Touched(ports=frozenset({port.id}))
    assert state.ports == {port.id: changed}


def test_a_full_document_drops_what_it_does_not_list() -> None:
    state, network = HostState(), a_network()
    port = a_port(network, "10.1.0.5")
    state.merge(Desired(version=1, full=True, networks=(network,), ports=(port,)))
    touched = state.merge(Desired(version=2, full=True, networks=(network,)))
    assert (touched.full, touched.ports, state.ports) == (True, {port.id}, {})


def test_what_is_gone_and_listed_again_stays() -> None:
    state = HostState()
    state.merge(Desired(version=1, full=True, groups=(GroupItem(id="g"),)))
    state.merge(Desired(version=2, groups=(GroupItem(id="g", members=("10.0.0.1",)),), gone=Gone(groups=("g",))))
    assert state.groups["g"].members == ("10.0.0.1",)


def test_an_older_document_changes_nothing() -> None:
    state = HostState(version=5, groups={"g": GroupItem(id="g")})
    with pytest.raises(ValueError, match="older"):
        state.merge(Desired(version=4, full=True))
    assert (state.version, set(state.groups)) == (5, {"g"})


def test_documents_survive_the_bus() -> None:
    network = a_network(dhcp=True)
    desired = Desired(version=3, networks=(network,), ports=(a_port(network, "10.1.0.5"),), gone=Gone(ports=("x",)))
    assert from_dict(Desired, msgspec.msgpack.decode(msgspec.msgpack.encode(to_dict(desired)))) == desired


def test_a_key_from_the_future_is_ignored() -> None:
    assert from_dict(Desired, {"version": 1, "full": True, "news": []}) == Desired(version=1, full=True)
