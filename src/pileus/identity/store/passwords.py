"""What is kept about passwords besides the present one: earlier ones, wrong ones, and when a user was last here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import insert_ignore

from .listing import Record
from .tables import credentials, old_passwords, totp_uses, users

_PRESENT = (
    users.c.password_hash,
    users.c.password_changed_at,
    users.c.password_self_service,
    users.c.last_active_at,
)


def present(conn: sa.Connection, user_id: str) -> Record | None:
    """The present password, since when and by whom, and the last active day."""
    return conn.execute(sa.select(*_PRESENT).where(users.c.id == user_id)).first()


# Earlier passwords ----------------------------------------------------------------------------------------------------


def earlier(conn: sa.Connection, user_id: str, most: int) -> Sequence[str]:
    """Hashes of earlier passwords, newest first."""
    query = sa.select(old_passwords.c.password_hash).where(old_passwords.c.user_id == user_id)
    newest_first = query.order_by(old_passwords.c.replaced_at.desc(), old_passwords.c.id.desc())
    return conn.execute(newest_first.limit(most)).scalars().all() if most > 0 else ()


def retire(conn: sa.Connection, user_id: str, password_hash: str, now: dt.datetime, most: int) -> None:
    """A password is replaced: it is remembered, and no more than `most` are."""
    mine = old_passwords.c.user_id == user_id
    if most > 0:
        row = {"id": ids.new_id(), "user_id": user_id, "password_hash": password_hash, "replaced_at": now}
        conn.execute(sa.insert(old_passwords).values(**row))
    order = (old_passwords.c.replaced_at.desc(), old_passwords.c.id.desc())
    known = conn.execute(sa.select(old_passwords.c.id).where(mine).order_by(*order)).scalars().all()
    if known[max(most, 0) :]:
        conn.execute(sa.delete(old_passwords).where(old_passwords.c.id.in_(known[max(most, 0) :])))


# Wrong passwords ------------------------------------------------------------------------------------------------------


def failures(conn: sa.Connection, user_id: str) -> tuple[int, dt.datetime | None]:
    """How many in a row, and when the last one was."""
    row = conn.execute(sa.select(users.c.failed_auth_count, users.c.failed_auth_at).where(users.c.id == user_id)).first()
    return (row[0], row[1]) if row is not None else (0, None)


def count_failure(conn: sa.Connection, user_id: str, now: dt.datetime, most: int, over: dt.datetime | None) -> None:
    """One more, in one statement. A locked user's are not counted; a lock from `over` or before has ended, and counting begins anew."""
    count = sa.case((users.c.failed_auth_count >= most, 1), else_=users.c.failed_auth_count + 1)
    change = sa.update(users).where(users.c.id == user_id, _open(most, over))
    # MariaDB assigns from left to right: the count first, which looks at nothing that is assigned here.
    conn.execute(change.ordered_values((users.c.failed_auth_count, count), (users.c.failed_auth_at, now)))


def forgive(conn: sa.Connection, user_id: str, most: int, over: dt.datetime | None) -> None:
    """Start anew after a login; nothing is changed when the user is locked."""
    change = sa.update(users).where(users.c.id == user_id, _open(most, over))
    conn.execute(change.values(failed_auth_count=0, failed_auth_at=None))


def _open(most: int, over: dt.datetime | None) -> sa.ColumnElement[bool]:
    few = users.c.failed_auth_count < most
    return few if over is None else sa.or_(few, users.c.failed_auth_at <= over)


# Activity -------------------------------------------------------------------------------------------------------------


def at_login(conn: sa.Connection, user_id: str) -> tuple[Mapping[str, Any], dt.date | None]:
    """Options and last active day of a user; nothing for one that is gone."""
    row = conn.execute(sa.select(users.c.options, users.c.last_active_at).where(users.c.id == user_id)).first()
    return (row[0], row[1]) if row is not None else ({}, None)


def note_active(conn: sa.Connection, user_id: str, today: dt.date) -> None:
    mine = sa.update(users).where(users.c.id == user_id, users.c.last_active_at < today)
    conn.execute(mine.values(last_active_at=today))


def is_enabled(wanted: bool, inactive_until: dt.date | None) -> sa.ColumnElement[bool]:
    """Users that are enabled, or not: who was last active on that day or before counts as disabled."""
    if inactive_until is None:
        return users.c.enabled == sa.literal(wanted)
    active = sa.or_(users.c.last_active_at.is_(None), users.c.last_active_at > inactive_until)
    enabled = sa.and_(users.c.enabled == sa.true(), active)
    return enabled if wanted else sa.not_(enabled)


# One-time passcodes ---------------------------------------------------------------------------------------------------


def totp_of(conn: sa.Connection, user_id: str) -> Sequence[Record]:
    """The TOTP credentials of a user, still sealed."""
    query = sa.select(credentials).where(credentials.c.user_id == user_id, credentials.c.type == "totp")
    return conn.execute(query.order_by(credentials.c.id)).all()


def use_step(conn: sa.Connection, credential_id: str, step: int) -> bool:
    """Use up a time step and all before it; False when it was used already. The row decides who of two was first."""
    mine = sa.update(totp_uses).where(totp_uses.c.credential_id == credential_id)
    values: dict[str, Any] = {"step": step}
    if conn.execute(mine.where(totp_uses.c.step < step).values(**values)).rowcount > 0:
        return True
    return insert_ignore(conn, totp_uses, [{"credential_id": credential_id, **values}]) > 0
