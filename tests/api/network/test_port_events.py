"""Compute learns what happened to its ports, until it has taken it."""

from __future__ import annotations

import pytest

from pileus.clients.base import PeerNotFound, PeerUnavailable
from pileus.network.loops.port_events import deliver_events
from tests.api.network.world import Network


class Compute:
    """A compute service that writes down what it is told, or fails."""

    def __init__(self):
        self.told, self.failure = [], None

    def has(self, service):
        return service == "compute"

    def compute(self, context):
        assert context.is_service
        return self

    def external_events(self, events):
        if self.failure:
            raise self.failure
        self.told += events


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def net(compute):
    made = Network(clients=compute)
    yield made
    made.client.close()


def names(compute, port):
    return [event["name"] for event in compute.told if event.get("tag") == port["id"]]


def test_a_plugged_port_is_told_once(net, compute):
    network, _ = net.net()
    port = net.guest(network)
    for _ in range(2):
        net.report(ports={port["id"]: "ACTIVE"})
    assert deliver_events(net.service) == 1
    assert compute.told == [{"name": "network-vif-plugged", "server_uuid": port["device_id"], "tag": port["id"], "status": "completed"}]
    assert deliver_events(net.service) == 0


def test_events_wait_for_compute(net, compute):
    network, _ = net.net()
    port = net.guest(network)
    net.report(ports={port["id"]: "ACTIVE"})
    compute.failure = PeerUnavailable("down", status=503)
    assert deliver_events(net.service) == 0
    compute.failure = None
    assert deliver_events(net.service) == 1
    assert names(compute, port) == ["network-vif-plugged"]


def test_events_of_unknown_servers_are_dropped(net, compute):
    network, _ = net.net()
    port = net.guest(network)
    net.report(ports={port["id"]: "ACTIVE"})
    compute.failure = PeerNotFound("no such server", status=404)
    deliver_events(net.service)
    compute.failure = None
    assert deliver_events(net.service) == 0


def test_an_unplugged_and_a_deleted_port_are_told(net, compute):
    network, _ = net.net()
    port = net.guest(network)
    net.report(ports={port["id"]: "ACTIVE"})
    net.report(ports={port["id"]: "DOWN"})
    net.delete("ports", port["id"])
    deliver_events(net.service)
    assert names(compute, port) == ["network-vif-plugged", "network-vif-unplugged", "network-vif-deleted"]


def test_ports_that_are_not_of_servers_are_not_told(net, compute):
    network, _ = net.net()
    port = net.bind(net.make("ports", network_id=network["id"]), "host1")
    net.report(ports={port["id"]: "ACTIVE"})
    assert deliver_events(net.service) == 0


def test_a_floating_ip_lets_compute_look_again(net, compute):
    outside, _ = net.outside()
    network, subnet = net.net()
    net.routed(subnet, outside)
    port = net.guest(network)
    net.make("floatingips", floating_network_id=outside["id"], port_id=port["id"])
    deliver_events(net.service)
    assert names(compute, port) == ["network-changed"]
