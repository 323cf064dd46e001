"""docs/compatibility.md says the truth, and only grows."""

import pytest

from tools import compatibility
from tools.compatibility import Wanted


def test_the_committed_table_is_current_and_has_lost_nothing():
    before, after = compatibility.PAGE.read_text(), compatibility.page(compatibility.everything())
    assert compatibility.lost(before, after) == []
    assert before == after, "run python -m tools.compatibility"


@pytest.mark.parametrize(
    ("ours", "wanted", "serves"),
    [
        (Wanted("/v2/a/{x}", "GET"), Wanted("/v2/a/{y}", "GET"), True),
        (Wanted("/v2/a/{x}", "GET"), Wanted("/v2/a/{y}", "HEAD"), True),
        (Wanted("/v2/a/{x}", "HEAD"), Wanted("/v2/a/{y}", "GET"), False),
        (Wanted("/v2/a/{x}", "GET"), Wanted("/v2/a/detail", "GET"), False),
        (Wanted("/v2/a/detail", "GET"), Wanted("/v2/a/{y}", "GET"), False),
        (Wanted("/v2/{kind}/{x}/tags", "GET"), Wanted("/v2/networks/{y}/tags", "GET"), True),
        (Wanted("/v2/a/{x}/action", "POST", "start"), Wanted("/v2/a/{x}/action", "POST", "start"), True),
        (Wanted("/v2/a/{x}/action", "POST", "start"), Wanted("/v2/a/{x}/action", "POST", "stop"), False),
        (Wanted("/v2/a", "GET"), Wanted("/v2/a/{x}", "GET"), False),
        (Wanted("/", "GET"), Wanted("/", "GET"), True),
    ],
)
def test_an_operation_is_served_by_one_of_the_same_shape(ours, wanted, serves):
    assert compatibility._serves(ours, wanted) is serves


def test_a_lost_operation_is_named():
    (entry, *rest) = compatibility.everything()
    import dataclasses

    less = dataclasses.replace(entry, served=entry.served[1:])
    gone = compatibility.lost(compatibility.page([entry, *rest]), compatibility.page([less, *rest]))
    assert gone == [f"{entry.upstream.name}: {entry.served[0]}"]


def test_every_service_of_ours_is_compared_with_one_of_upstream():
    from pileus.server import rooms

    compared = {entry.room.name for entry in compatibility.everything() if entry.room}
    assert compared == set(rooms.NAMES)
