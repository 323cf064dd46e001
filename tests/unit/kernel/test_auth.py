"""From tokens to contexts: cached under identity's revision, and never longer than they are valid."""

import datetime as dt
import threading

import pytest

from pileus.kernel import clock
from pileus.kernel.errors import NotFound, Unauthorized, Unavailable
from pileus.kernel.web.auth import Authenticator


class Identity:
    """What the authenticator asks: counts, changes its mind, goes away."""

    def __init__(self):
        self.revision = 1
        self.asked = []
        self.roles = {"good": ["member"], "service": ["service"]}
        self.expires = clock.utcnow() + dt.timedelta(hours=1)
        self.away = False

    def validate(self, token):
        if self.away:
            raise Unavailable("identity is away")
        self.asked.append(token)
        if token not in self.roles:
            raise NotFound("no such token")
        named = {"id": "default", "name": "Default"}
        return {
            "user": {"id": "u", "name": "u", "domain": named},
            "project": {"id": "p", "name": "p", "domain": named},
            "roles": [{"name": name} for name in self.roles[token]],
            "expires_at": self.expires.isoformat() + "Z",
        }


@pytest.fixture
def virtual():
    virtual = clock.VirtualClock()
    before = clock.use(virtual)
    yield virtual
    clock.use(before)


@pytest.fixture
def identity(virtual):
    return Identity()


@pytest.fixture
def authenticator(identity):
    return Authenticator(identity.validate, lambda: identity.revision, size=3)


def test_a_token_is_validated_once_for_each_revision(identity, authenticator):
    for _ in range(3):
        assert authenticator.context("good").roles == ("member",)
    assert identity.asked == ["good"]
    identity.roles["good"] = ["reader"]
    assert authenticator.context("good").roles == ("member",), "nothing has told that rights changed"
    identity.revision = 2
    assert authenticator.context("good").roles == ("reader",)
    del identity.roles["good"]
    identity.revision = 3
    assert authenticator.context("good") is None


def test_a_cached_token_ends_with_its_validity(identity, authenticator, virtual):
    assert authenticator.context("good") is not None
    virtual.advance(3601)
    assert authenticator.context("good") is None


def test_unknown_tokens_are_nobodys_and_not_remembered(identity, authenticator):
    assert authenticator.context("wrong") is None
    identity.roles["wrong"] = ["reader"]
    assert authenticator.context("wrong") is not None


def test_a_right_taken_away_while_a_token_is_validated_is_not_cached(identity):
    """The answer was made before the change, so it must not count for the new revision."""

    def validate(token):
        body = Identity.validate(identity, token)
        identity.roles["good"] = []
        identity.revision += 1
        return body

    authenticator = Authenticator(validate, lambda: identity.revision)
    authenticator.context("good")
    assert authenticator.context("good").roles == ()


def test_when_identity_is_away_nobody_new_is_let_in_and_it_is_said(identity, authenticator):
    identity.away = True
    with pytest.raises(Unavailable):
        authenticator.context("good")


def test_a_service_token_adds_what_services_may_do_and_a_wrong_one_refuses_all(identity, authenticator):
    context = authenticator.context("good", "service")
    assert (context.roles, context.service_roles, context.is_service) == (("member",), ("service",), True)
    assert authenticator.context("good", "wrong") is None
    assert authenticator.context("wrong", "service") is None
    assert not authenticator.context("good", "good").is_service


def test_the_cache_stays_small(identity, authenticator):
    for number in range(10):
        identity.roles[str(number)] = ["member"]
        authenticator.context(str(number))
    assert len(authenticator._answers) == 3


def test_a_refusal_by_401_is_nobody_too(identity):
    def validate(token):
        raise Unauthorized

    assert Authenticator(validate, lambda: 1).context("x") is None


def test_threads_share_the_cache(identity, authenticator):
    threads = [threading.Thread(target=lambda: authenticator.context("good")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(identity.asked) <= 8
    assert "good" not in repr(authenticator._answers), "tokens are kept as digests, and contexts do not show them"
