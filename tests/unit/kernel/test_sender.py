"""What each kind of sender may ask for on the bus."""

import pytest

from pileus.kernel.bus.sender import check, everyone, may_answer, node_of, user_of_node
from pileus.kernel.errors import Forbidden

ONE = user_of_node("0123abcd", "one")


def allowed(user, topic, payload, members=everyone):
    try:
        check(user, topic, payload, members)
    except Forbidden:
        return False
    return True


def test_names_of_nodes_come_back_from_their_users():
    for name in ("one", "node-1", "a.b.example.org", "X" * 50):
        assert node_of(user_of_node("0123abcd", name)) == name
        assert len(user_of_node("0123abcd", name)) <= 64, "a common name has no more"


@pytest.mark.parametrize("user", ["node-one", "node-0123abcd-", "node-0123ABCD-one", "node-0123abcd-one\n", "node-0123abcd-a b", "node-0123abcd--a"])
def test_who_only_looks_like_a_node_is_heard_by_nobody(user):
    assert node_of(user) is None
    assert not allowed(user, "controller.t", {"host": "one"})
    assert not allowed(user, "controller.t", {"host": None})
    assert not may_answer(user, "agent.one")


def test_each_sender_has_its_bounds():
    for trusted in (None, "pileus", "guest", "nodes"):
        assert allowed(trusted, "agent.two", {"host": "any"}), trusted
    assert not allowed("", "controller.t", {"host": "one"})
    assert allowed(ONE, "controller.t", {"host": "one"})
    for payload in ({"host": "two"}, {}, {"host": None}, {"host": ["one"]}):
        assert not allowed(ONE, "controller.t", payload), payload
    assert not allowed(ONE, "agent.one", {"host": "one"})
    assert not allowed(ONE, "controller.t", {"host": "one"}, lambda _user: False)


def test_only_a_host_or_a_controller_answers_for_the_host():
    assert may_answer(None, "agent.one") and may_answer("pileus", "agent.one") and may_answer(ONE, "agent.one")
    assert not may_answer(ONE, "agent.two")
    assert not may_answer(ONE, "controller.t")
    assert not may_answer("", "agent.one")
