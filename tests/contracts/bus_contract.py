"""What any bus must do, whatever carries it. A carrier gives `Ends`: buses of two nodes that reach each other.

    class TestOverSockets(BusContract):
        @pytest.fixture
        def ends(self, tmp_path): ...
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable

import pytest

from pileus.kernel import clock, ids
from pileus.kernel.bus import Bus, BusTimeout, BusUnavailable, RemoteError
from pileus.kernel.bus.base import MESSAGE_VERSION, Request
from pileus.kernel.errors import Conflict, ProgrammingError
from pileus.kernel.waiting import serving, transaction


@dataclasses.dataclass
class Ends:
    """`server` and `client` are buses; `more()` makes one more bus that reaches the others."""

    server: Bus
    client: Bus
    more: Callable[[], Bus]


def until(condition, what):
    tick = threading.Event()
    for _ in range(2000):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError(f"it never came about that {what}")


class BusContract:
    def test_a_call_gives_what_the_method_returns(self, ends):
        ends.server.serve("t", {"add": lambda payload: {"sum": payload["a"] + payload["b"]}, "none": lambda payload: None})
        assert ends.client.call("t", "add", {"a": 1, "b": 2}) == {"sum": 3}
        assert ends.client.call("t", "none") is None

    def test_payloads_keep_their_types_and_the_sender_keeps_its_own(self, ends):
        sent = {"list": [1, 2.5, "ö", None, True], "map": {"bytes": b"\x00\xff"}, "big": 1 << 40}

        def change(payload):
            payload["list"].append("changed")
            return payload

        ends.server.serve("t", {"change": change})
        answer = ends.client.call("t", "change", sent)
        assert answer == {**sent, "list": [*sent["list"], "changed"]}
        assert sent["list"][-1] is True

    def test_a_large_payload_passes(self, ends):
        ends.server.serve("t", {"size": lambda payload: {"size": len(payload["data"]), "data": payload["data"]}})
        data = b"x" * 3_000_000
        assert ends.client.call("t", "size", {"data": data}) == {"size": len(data), "data": data}

    def test_domain_errors_come_with_kind_and_sentence_and_others_too(self, ends):
        def refuse(payload):
            raise Conflict("It is in use.")

        def break_(payload):
            raise ZeroDivisionError("by zero")

        ends.server.serve("t", {"refuse": refuse, "break": break_, "odd": lambda payload: {"value": object()}})
        with pytest.raises(RemoteError) as caught:
            ends.client.call("t", "refuse")
        assert (caught.value.kind, caught.value.message) == ("Conflict", "It is in use.")
        with pytest.raises(RemoteError) as caught:
            ends.client.call("t", "break")
        assert caught.value.kind == "ZeroDivisionError"
        with pytest.raises(RemoteError, match="no method nothing"):
            ends.client.call("t", "nothing")

    def test_an_answer_that_cannot_be_sent_is_an_error_and_not_a_silence(self, ends):
        done = []
        ends.server.serve("t", {"odd": lambda payload: done.append(1) or {"value": object()}})
        with pytest.raises(RemoteError):
            ends.client.call("t", "odd", timeout=5)
        assert done == [1]

    def test_a_topic_that_nobody_serves_is_unavailable_to_calls_and_nothing_to_casts(self, ends):
        with pytest.raises(BusUnavailable):
            ends.client.call("nobody", "x", timeout=1)
        ends.client.cast("nobody", "x")
        ends.client.fanout("nobody", "x")

    def test_methods_of_a_topic_may_be_given_in_parts(self, ends):
        ends.server.serve("t", {"a": lambda payload: {"from": "a"}})
        ends.server.serve("t", {"b": lambda payload: {"from": "b"}})
        assert [ends.client.call("t", name) for name in "ab"] == [{"from": "a"}, {"from": "b"}]

    def test_a_call_without_an_answer_in_time_is_a_timeout(self, ends):
        go = threading.Event()
        ends.server.serve("t", {"slow": lambda payload: go.wait(20) and None, "quick": lambda payload: {}})
        try:
            with pytest.raises(BusTimeout):
                ends.client.call("t", "slow", timeout=0.1)
            assert ends.client.call("t", "quick", timeout=10) == {}, "a slow method holds up no other call"
        finally:
            go.set()

    def test_a_repeated_request_is_done_once_and_answered_each_time(self, ends):
        done = []
        ends.server.serve("t", {"do": lambda payload: done.append(1) or {"n": len(done)}})
        request = Request(ids.new_id(), "me", MESSAGE_VERSION, "call", "do", 10.0, {})
        assert [ends.client._call("t", request).result for _ in range(3)] == [{"n": 1}] * 3
        assert done == [1]

    def test_a_request_repeated_while_the_first_is_at_work_waits_for_its_answer(self, ends):
        started, go, done, answers = threading.Event(), threading.Event(), [], []

        def work(payload):
            started.set()
            go.wait(20)
            done.append(1)
            return {"n": len(done)}

        ends.server.serve("t", {"work": work})
        request = Request(ids.new_id(), "me", MESSAGE_VERSION, "call", "work", 20.0, {})
        threads = [threading.Thread(target=lambda: answers.append(ends.client._call("t", request).result)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert started.wait(20)
        go.set()
        for thread in threads:
            thread.join(20)
        assert answers == [{"n": 1}] * 3
        assert done == [1]

    def test_calls_at_once_are_not_mixed_up(self, ends):
        ends.server.serve("t", {"echo": lambda payload: payload})
        wrong = []

        def many(number):
            for turn in range(20):
                payload = {"who": number, "turn": turn}
                if ends.client.call("t", "echo", payload) != payload:
                    wrong.append(payload)

        threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong

    def test_a_cast_reaches_one_server_and_a_fanout_all(self, ends):
        got = {"first": [], "second": []}
        ends.server.serve("t", {"tell": lambda payload: got["first"].append(payload["n"])})
        other = ends.more()
        other.serve("t", {"tell": lambda payload: got["second"].append(payload["n"])})
        for number in range(10):
            ends.client.cast("t", "tell", {"n": number})
        until(lambda: len(got["first"]) + len(got["second"]) == 10, "all casts have come")
        assert sorted(got["first"] + got["second"]) == list(range(10))
        ends.client.fanout("t", "tell", {"n": 99})
        until(lambda: 99 in got["first"] and 99 in got["second"], "the fanout has come everywhere")

    def test_a_cast_that_fails_or_takes_long_harms_nobody(self, ends):
        go = threading.Event()

        def stuck(payload):
            go.wait(20)
            raise ValueError

        ends.server.serve("t", {"stuck": stuck, "quick": lambda payload: {}})
        try:
            ends.client.cast("t", "stuck")
            assert ends.client.call("t", "quick", timeout=10) == {}
        finally:
            go.set()

    def test_waiting_goes_one_way(self, ends):
        """No call or nudge inside a transaction, no call while serving one."""
        ends.server.serve("t", {"again": lambda payload: ends.server.call("t", "again"), "fine": lambda payload: {}})
        with pytest.raises(RemoteError) as caught:
            ends.client.call("t", "again")
        assert caught.value.kind == "ProgrammingError"
        for verb in (ends.client.call, ends.client.cast, ends.client.fanout):
            with transaction("test"), pytest.raises(ProgrammingError):
                verb("t", "fine")
        with serving("x"), pytest.raises(ProgrammingError):
            ends.client.call("t", "fine")
        with serving("x"):
            ends.client.cast("t", "fine")

    def test_a_restarted_server_is_found_again(self, ends):
        ends.server.serve("t", {"who": lambda payload: {"n": 1}})
        assert ends.client.call("t", "who") == {"n": 1}
        ends.server.close()
        with pytest.raises(BusUnavailable):
            ends.client.call("t", "who", timeout=1)
        again = ends.more()
        again.serve("t", {"who": lambda payload: {"n": 2}})
        assert ends.client.call("t", "who") == {"n": 2}
        ends.client.cast("t", "who")

    def test_a_notification_is_in_oslo_messagings_envelope(self, ends):
        got = []
        ends.server.serve("notifications", {"notify": got.append})
        ends.client.notify("compute.instance.create.end", {"instance_id": "x", "when": "now"})
        until(lambda: got, "the notification has come")
        assert set(got[0]) == {"oslo.version", "oslo.message"}
        assert got[0]["oslo.version"] == "2.0"
        message = json.loads(got[0]["oslo.message"])
        assert set(message) == {"message_id", "publisher_id", "event_type", "priority", "payload", "timestamp"}
        assert message["event_type"] == "compute.instance.create.end"
        assert message["payload"] == {"instance_id": "x", "when": "now"}
        assert clock.parse(message["timestamp"])

    def test_processes_of_the_installations_own_user_may_speak_of_any_host(self, ends):
        ends.server.members = lambda user: False
        ends.server.serve("controller.t", {"report": lambda payload: {"of": payload["host"]}})
        ends.server.serve("agent.one", {"order": lambda payload: {"done": True}})
        assert ends.client.call("controller.t", "report", {"host": "any"}) == {"of": "any"}
        assert ends.client.call("agent.one", "order") == {"done": True}
