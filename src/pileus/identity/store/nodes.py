"""Nodes, controllers, and the invitations by which they join."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from . import people
from .listing import Lock, Record, locked
from .metadata import METADATA
from .tables import node_tokens, nodes

ACTIVE, DRAINING, REMOVING, REMOVED = "active", "draining", "removing", "removed"
MEMBERS = (ACTIVE, DRAINING)
"""The states in which a node belongs to the cloud."""

_CONTROLLERS = METADATA.tables["controllers"]
_AS_NODES = sa.select(
    _CONTROLLERS.c.host.label("name"),
    sa.null().label("principal"),
    _CONTROLLERS.c.state,
    _CONTROLLERS.c.roles,
    sa.null().label("user_id"),
    sa.null().label("serial"),
    sa.null().label("certificate_ends_at"),
    _CONTROLLERS.c.joined_at,
    _CONTROLLERS.c.seen_at,
)
"""Controllers as records of nodes: they have no user, and no certificate of their own at the broker."""


def everyone(conn: sa.Connection) -> Sequence[Record]:
    """Controllers first."""
    return [*controllers(conn), *conn.execute(sa.select(nodes).order_by(nodes.c.name)).all()]


def controllers(conn: sa.Connection, lock: Lock = None) -> Sequence[Record]:
    """Locked in the order of their names, where they are to be changed."""
    return conn.execute(locked(_AS_NODES.order_by(_CONTROLLERS.c.host), lock)).all()


def named(conn: sa.Connection, name: str, lock: Lock = None) -> Record | None:
    """The controller or node of this name, one that belongs to the cloud rather than a removed one."""
    found: list[Record] = [
        *conn.execute(locked(_AS_NODES.where(_CONTROLLERS.c.host == name), lock)),
        *conn.execute(locked(sa.select(nodes).where(nodes.c.name == name), lock)),
    ]
    return min(found, key=lambda record: record.state == REMOVED, default=None)


def change_controller(conn: sa.Connection, name: str, state: str) -> bool:
    """Change the state of a controller that belongs to the cloud; whether it did."""
    row = sa.and_(_CONTROLLERS.c.host == name, _CONTROLLERS.c.state.in_(MEMBERS))
    return conn.execute(sa.update(_CONTROLLERS).where(row).values(state=state)).rowcount == 1


def put(conn: sa.Connection, row: Mapping[str, Any]) -> bool:
    """A new node, in the place of a removed one of its name; False when the name is taken."""
    gone = sa.and_(nodes.c.name == row["name"], nodes.c.state == REMOVED)
    conn.execute(sa.delete(nodes).where(gone))
    return insert_ignore(conn, nodes, [dict(row)]) == 1


def change(conn: sa.Connection, name: str, states: Collection[str], **values: Any) -> bool:
    """Change a node that is in one of the states; whether it was."""
    row = sa.and_(nodes.c.name == name, nodes.c.state.in_(list(states)))
    return conn.execute(sa.update(nodes).where(row).values(**values)).rowcount == 1


def forget_user(conn: sa.Connection, name: str) -> None:
    """Delete a node's user with all that it may."""
    of_node = sa.select(nodes.c.user_id).where(nodes.c.name == name)
    user_id = conn.execute(of_node).scalar_one_or_none()
    conn.execute(sa.update(nodes).where(nodes.c.name == name).values(user_id=None))
    if user_id is not None:
        people.delete_user(conn, user_id)


def add_token(conn: sa.Connection, row: Mapping[str, Any], now: dt.datetime) -> None:
    """A new invitation; those whose time is over go."""
    conn.execute(sa.delete(node_tokens).where(node_tokens.c.expires_at <= now))
    conn.execute(sa.insert(node_tokens).values(**row))


def token(conn: sa.Connection, secret_hash: str, now: dt.datetime) -> Record | None:
    """An invitation that is still good."""
    query = sa.select(node_tokens.c.name, node_tokens.c.roles)
    good = sa.and_(node_tokens.c.secret_hash == secret_hash, node_tokens.c.expires_at > now)
    row: Record | None = conn.execute(query.where(good)).first()
    return row


def take_token(conn: sa.Connection, secret_hash: str, now: dt.datetime) -> bool:
    """Use an invitation up; False when it was used or its time is over."""
    good = sa.and_(node_tokens.c.secret_hash == secret_hash, node_tokens.c.expires_at > now)
    return conn.execute(sa.delete(node_tokens).where(good)).rowcount == 1
