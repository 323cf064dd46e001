"""Placement's client against the real service, in process."""

from __future__ import annotations

import threading
import uuid

import pytest

from pileus.clients.base import LocalBinding, PeerConflict, PeerNotFound
from pileus.clients.placement import PlacementClient, code_of
from pileus.kernel.testing import SERVICE, make_client
from pileus.placement.room import ROOM


@pytest.fixture
def client():
    room = make_client(ROOM)
    yield PlacementClient(LocalBinding(lambda: room.app, ROOM.prefix, "http://localhost:5000"), SERVICE)
    room.close()


def new():
    return str(uuid.uuid4())


def test_a_host_is_made_once_and_followed(client):
    key = new()
    for _ in range(2):
        assert client.ensure_provider(key, "host1")["uuid"] == key
    assert client.ensure_provider(key, "renamed")["name"] == "renamed"
    assert not client.introduce_provider(key, "renamed", {})
    other = new()
    assert client.introduce_provider(other, "host2", {"VCPU": {"total": 4}})
    assert [entry["total"] for entry in client.get(f"/resource_providers/{other}/inventories")["inventories"].values()] == [4]
    client.delete_provider(other)
    with pytest.raises(PeerNotFound):
        client.ensure_provider(new(), "renamed")
    client.set_inventories(key, {"VCPU": {"total": 4, "allocation_ratio": 2.0}})
    generation = client.provider(key)["generation"]
    client.set_inventories(key, {"VCPU": {"total": 4, "allocation_ratio": 2.0}})
    assert client.provider(key)["generation"] == generation
    client.set_traits(key, {"CUSTOM_GOLD", "COMPUTE_NODE"})
    client.set_traits(key, {"COMPUTE_NODE", "CUSTOM_GOLD"})
    client.set_aggregates(key, [new()])
    found = client.allocation_candidates({"resources": "VCPU:8", "required": "CUSTOM_GOLD"})
    assert [list(one["allocations"]) for one in found["allocation_requests"]] == [[key]]
    client.delete_provider(key)
    client.delete_provider(key)
    assert client.providers(name="renamed") == []


def test_a_claim_may_be_repeated_moved_and_given_back(client):
    source, target, server, migration = new(), new(), new(), new()
    for name, key in (("source", source), ("target", target)):
        client.ensure_provider(key, name)
        client.set_inventories(key, {"VCPU": {"total": 4}})
    owner = {"project_id": "p", "user_id": "u"}
    for _ in range(2):
        client.put_allocations(server, {source: {"VCPU": 3}}, **owner)
    with pytest.raises(PeerConflict) as refused:
        client.put_allocations(new(), {source: {"VCPU": 2}}, **owner)
    assert code_of(refused.value) == "placement.undefined_code"
    for _ in range(2):
        client.move_allocations(server, migration, keep={target: {"VCPU": 3}})
    assert client.allocations(server) == {target: {"VCPU": 3}}
    assert client.allocations(migration) == {source: {"VCPU": 3}}
    assert client.provider_allocations(source) == {migration: {"VCPU": 3}}
    for consumer in (server, migration, migration):
        client.delete_allocations(consumer)
    assert client.usages(source) == {"VCPU": 0}


def test_inventories_and_claims_from_many_threads_all_arrive(client):
    key = new()
    client.ensure_provider(key, "host")
    client.set_inventories(key, {"VCPU": {"total": 100}})
    errors = []

    def work(number):
        try:
            client.put_allocations(new(), {key: {"VCPU": 1}}, project_id="p", user_id="u")
            client.set_inventories(key, {"VCPU": {"total": 100}, "DISK_GB": {"total": number + 1}})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert client.usages(key)["VCPU"] == 4
