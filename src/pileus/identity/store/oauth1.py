"""OAuth 1.0: consumers, what they ask for, what users granted them, and the signatures that were used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from .listing import Lock, Record, locked
from .tables import oauth_access_tokens, oauth_consumers, oauth_nonces, oauth_request_tokens

CONSUMER_COLUMNS = (
    oauth_consumers.c.id,
    oauth_consumers.c.description,
    oauth_consumers.c.secret,
    oauth_consumers.c.extra,
)
_ACCESS_TOKEN = sa.select(oauth_access_tokens).where(oauth_access_tokens.c.id == sa.bindparam("token_id"))


def request_token(conn: sa.Connection, token_id: str, lock: Lock = None) -> Record | None:
    query = sa.select(oauth_request_tokens).where(oauth_request_tokens.c.id == token_id)
    return conn.execute(locked(query, lock)).first()


def forget_request_tokens(conn: sa.Connection, now: dt.datetime) -> None:
    """Those that nobody can authorize any more go."""
    conn.execute(sa.delete(oauth_request_tokens).where(oauth_request_tokens.c.expires_at <= now))


def access_token(conn: sa.Connection, token_id: str) -> Record | None:
    return conn.execute(_ACCESS_TOKEN, {"token_id": token_id}).first()


def access_tokens_of(conn: sa.Connection, user_id: str) -> Sequence[Record]:
    table = oauth_access_tokens
    return conn.execute(sa.select(table).where(table.c.user_id == user_id).order_by(table.c.id)).all()


def use_nonce(conn: sa.Connection, digest: str, expires_at: dt.datetime, now: dt.datetime) -> bool:
    """Note a signature that is used; False when it was before. Those that are too old to be used anyway go."""
    conn.execute(sa.delete(oauth_nonces).where(oauth_nonces.c.expires_at <= now))
    return insert_ignore(conn, oauth_nonces, [{"digest": digest, "expires_at": expires_at}]) == 1
