"""Who sent a request, as the carrier vouches for it, and what such a sender may ask for.

Between machines that is the user whose certificate or password the broker has checked. A node of the cloud is the user
`node-<eight digits>-<name>`; the digits are those of its membership, so that a name that joins again is another user and
nothing of the first one's is worth anything. Every other user is a controller: only who runs the broker makes such.
Within one machine (Unix sockets of one user) there is nobody to tell apart: the sender is None and may do everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pileus.kernel.errors import Forbidden

AGENTS = "agent."
"""Before the host in the topic that takes a host's orders."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}"
"""What a node may be called: a common name has 64 letters at most."""

_NODE = re.compile(rf"node-[0-9a-f]{{8}}-({NAME})")

Members = Callable[[str], bool]
"""Whether a node's user belongs to the cloud now."""


def everyone(_user: str) -> bool:
    """The members of a bus that knows no registry: the broker's word is enough."""
    return True


def user_of_node(membership: str, name: str) -> str:
    """The user of a node. `membership` are eight hexadecimal digits."""
    return f"node-{membership}-{name}"


def node_of(user: str) -> str | None:
    """The name of the node that a user is; None for a controller's."""
    found = _NODE.fullmatch(user)
    return found[1] if found else None


def is_node(user: str) -> bool:
    """Whether a user is a node's, or pretends to be one's."""
    return user.startswith("node-")


def check(user: str | None, topic: str, payload: Mapping[str, Any], members: Members) -> None:
    """A node asks controllers alone, and for its own host alone; who has no name asks for nothing. Raises Forbidden."""
    if user is None:
        return
    if not user:
        raise Forbidden("The broker does not say who sent this.")
    if not is_node(user):
        return
    if topic.startswith(AGENTS):
        raise Forbidden("A host takes orders from controllers alone.")
    name = node_of(user)
    if name is None or payload.get("host") != name:
        raise Forbidden(f"{user} speaks for itself alone.")
    if not members(user):
        raise Forbidden(f"{user} does not belong to this cloud.")


def may_answer(user: str | None, topic: str) -> bool:
    """Whether an answer to a call of this topic can be this sender's."""
    if user is None or not is_node(user):
        return user != ""
    return topic == AGENTS + (node_of(user) or "")
