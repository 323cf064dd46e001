"""Which tokens a request to a peer over HTTP carries."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from pileus.kernel import clock
from pileus.kernel.access_rules import AccessRule
from pileus.kernel.context import service_context
from pileus.kernel.testing import MEMBER
from pileus.server.tokens import ServiceTokens


class Fetched(ServiceTokens):
    def _fetch(self, service):
        return f"token-of-{service}", clock.utcnow() + dt.timedelta(hours=1)


@pytest.fixture
def tokens():
    return Fetched("http://identity", {"admin": "a", "compute": "c", "demo": "d", "network": "n"})


def test_a_services_own_work_carries_its_token_twice(tokens):
    assert tokens.headers(service_context("network")) == ("token-of-network", "token-of-network")


def test_a_users_request_is_passed_on_with_the_users_token_alone(tokens):
    assert tokens.headers(dataclasses.replace(MEMBER, token="t")) == ("t", None)


def test_what_a_confined_user_asked_for_is_vouched_for_by_a_service(tokens):
    confined = dataclasses.replace(MEMBER, token="t", access_rules=(AccessRule("compute", "POST", "/v2.1/servers"),))
    assert tokens.headers(confined) == ("t", "token-of-compute")
