"""Bodies are read whole and up to a limit, however they come."""

from types import SimpleNamespace

import pytest

from pileus.kernel.errors import TooLarge
from pileus.kernel.web.call import MOST_LEVELS, is_deep, read_bounded


def test_a_body_of_unknown_length_that_comes_in_pieces_is_read_to_its_end():
    pieces = [b"grant_", b"type=", b"client_credentials", b""]
    stream = SimpleNamespace(read=lambda _size: pieces.pop(0))
    assert read_bounded(stream, None, 100) == b"grant_type=client_credentials"
    endless = SimpleNamespace(read=lambda size: b"x" * min(size, 7))
    with pytest.raises(TooLarge):
        read_bounded(endless, None, 100)
    with pytest.raises(TooLarge):
        read_bounded(endless, 101, 100)


def nested(levels, kind=list):
    made = kind()
    for _ in range(levels - 1):
        made = [made] if kind is list else {"a": made}
    return made


@pytest.mark.parametrize("kind", [list, dict])
def test_a_document_may_have_so_many_levels_and_no_more(kind):
    assert not is_deep(nested(MOST_LEVELS, kind))
    assert is_deep(nested(MOST_LEVELS + 1, kind))
    assert is_deep([1, {"b": [nested(MOST_LEVELS - 1), 2]}, "x"])
    assert not is_deep("[" * 200) and not is_deep(None) and not is_deep([[]] * 500)
