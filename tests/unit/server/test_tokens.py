"""Which tokens a request to a peer over HTTP carries."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from pileus.cli.session import load_config
from pileus.kernel import clock
from pileus.kernel.access_rules import AccessRule
from pileus.kernel.context import service_context
from pileus.kernel.testing import MEMBER
from pileus.server import rooms
from pileus.server.assembly import http_binding
from pileus.server.tokens import ServiceTokens


class Fetched(ServiceTokens):
    def _fetch(self, service):
        return f"token-of-{service}", clock.utcnow() + dt.timedelta(hours=1)


@pytest.fixture
def tokens():
    return Fetched("http://identity", {"admin": "a", "compute": "c", "demo": "d", "network": "n"})


def test_a_services_own_work_carries_its_token_twice(tokens):
    assert tokens.headers(service_context("network")) == ("token-of-network", "token-of-network")


def test_on_a_node_every_agent_acts_as_the_node():
    tokens = Fetched("http://identity", {"node-0123abcd-one": "p"}, node="node-0123abcd-one")
    for service in ("network", "compute"):
        assert tokens.headers(service_context(service)) == ("token-of-node-0123abcd-one",) * 2


def test_peers_are_reached_at_the_controllers_url_with_their_authority(tmp_path):
    config = load_config(tmp_path, {"api": {"controller_url": "https://c:5000/", "ca": "/etc/ca.pem", "port": 5001}})
    assert (config.internal_url, config.ca_file) == ("https://c:5000", "/etc/ca.pem")
    binding = http_binding(config, rooms.room("image"))
    assert binding._url == "https://c:5000/image"
    assert config.base_url == "http://127.0.0.1:5001", "what this machine itself serves"
    alone = load_config(tmp_path, {"api": {"port": 5001}})
    assert (alone.internal_url, alone.ca_file) == ("http://127.0.0.1:5001", None)


def test_a_users_request_is_passed_on_with_the_users_token_alone(tokens):
    assert tokens.headers(dataclasses.replace(MEMBER, token="t")) == ("t", None)


def test_what_a_confined_user_asked_for_is_vouched_for_by_a_service(tokens):
    confined = dataclasses.replace(MEMBER, token="t", access_rules=(AccessRule("compute", "POST", "/v2.1/servers"),))
    assert tokens.headers(confined) == ("t", "token-of-compute")
