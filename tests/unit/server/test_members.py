"""Which nodes the controllers listen to."""

from pileus.clients.base import PeerUnavailable
from pileus.server.members import Members


def node(name, state="active"):
    return {"principal": name, "state": state}


def test_active_and_draining_nodes_are_members():
    members = Members(lambda: [node("a"), node("b", "draining"), node("c", "removing"), node("d", "removed")])
    members.begin()
    assert [name for name in "abcd" if name in members] == ["a", "b"]


def test_an_unknown_node_is_refused_and_makes_us_look_again():
    known, woken = [node("a")], []
    members = Members(lambda: known)
    members.wake = woken.append
    members.begin()
    known.append(node("b"))
    assert "b" not in members
    assert woken == ["nodes"]
    members.loop.run(None)
    assert "b" in members


def test_while_identity_is_away_the_last_word_counts():
    answers = [[node("a")], PeerUnavailable("away", status=503)]

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    members = Members(ask)
    members.begin()
    members.begin()
    assert "a" in members
