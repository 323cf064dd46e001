"""The rules of passwords: what a new one must be, how long it lasts, who may change it when, and who is inactive.

`users.password_expires_at` is what counts: it is empty for users whose option exempts them, and made anew when that is taken away.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import invalid
from pileus.identity.store import passwords as store
from pileus.kernel import clock
from pileus.kernel.service import Service

from . import state as state_module

Options = Mapping[str, Any]
"""Options of a user, by upstream's names."""


# New passwords --------------------------------------------------------------------------------------------------------


def check_strength(service: Service, password: str) -> None:
    """Raises Invalid with what the operator says of the rule."""
    options = service.options
    if len(password) > options.max_password_length:
        raise invalid(f"The password is longer than {options.max_password_length} characters.")
    if options.password_regex and not re.match(options.password_regex, password):
        told = options.password_regex_description or f"it has to match {options.password_regex}"
        raise invalid(f"The password is not strong enough: {told.rstrip('.')}.")


def check_changeable(service: Service, options: Options, *, since: dt.datetime | None, self_service: bool) -> None:
    """Whether a user may replace the password now. One that an administrator gave may be replaced at once.

    Raises Invalid.
    """
    if options.get("lock_password"):
        raise invalid("The password of this user is locked: only an administrator can change it.")
    days = service.options.minimum_password_age
    if not self_service or since is None or not days:
        return
    left = since + dt.timedelta(days=days) - clock.utcnow()
    if left > dt.timedelta(0):
        raise invalid(
            f"A password has to be kept for {days} days before it can be changed; this one can be in"
            f" {math.ceil(left / dt.timedelta(days=1))} days, or now by an administrator."
        )


def check_unused(service: Service, user_id: str, present: str, password: str) -> None:
    """The new password is none of the last ones. Costs a hash for each of them. Raises Invalid."""
    count = service.options.unique_last_password_count
    if not count:
        return
    with service.db.read() as conn:
        known = [present, *store.earlier(conn, user_id, count - 1)]
    hasher = state_module.of(service).hasher
    if any(hasher.verify(password, stored) for stored in known):
        which = "the present one" if count == 1 else f"the last {count}, the present one among them"
        raise invalid(f"The new password was used before: it has to differ from {which}.")


def hashed(service: Service, password: str | None) -> str | None:
    """The hash of a new password. Raises Invalid when it is not strong enough."""
    if password is None:
        return None
    check_strength(service, password)
    return state_module.of(service).hasher.hash(password)


# What is kept ---------------------------------------------------------------------------------------------------------


def expires_at(service: Service, options: Options, since: dt.datetime, *, self_service: bool) -> dt.datetime | None:
    """When a password set at a moment ends; one that has to be changed upon first use has ended already."""
    if options.get("ignore_password_expiry"):
        return None
    first_use = service.options.change_password_upon_first_use and not self_service
    if first_use and not options.get("ignore_change_password_upon_first_use"):
        return since
    days = service.options.password_expires_days
    return (since + dt.timedelta(days=days)).replace(microsecond=0) if days else None


def of_new_user(service: Service, password_hash: str | None, options: Options, now: dt.datetime) -> dict[str, Any]:
    """The columns of a user about to be made."""
    return {
        "password_hash": password_hash,
        "password_changed_at": now if password_hash else None,
        "password_expires_at": expires_at(service, options, now, self_service=False) if password_hash else None,
        "last_active_at": None if options.get("ignore_user_inactivity") else now.date(),
    }


def of_new_password(
    service: Service, password_hash: str | None, options: Options, *, self_service: bool
) -> dict[str, Any]:
    """The columns of a user who gets another password now: all tokens end. One that an administrator gives unlocks."""
    now = clock.utcnow()
    return {
        "password_hash": password_hash,
        "password_changed_at": now,
        "password_expires_at": expires_at(service, options, now, self_service=self_service) if password_hash else None,
        "password_self_service": self_service,
        **({} if self_service else {"failed_auth_count": 0, "failed_auth_at": None}),
        "tokens_valid_after": now,
    }


def retire(service: Service, conn: sa.Connection, user_id: str, password_hash: str | None) -> None:
    """Remember a password that was replaced; the row of the user was locked or changed before in this transaction."""
    if password_hash is not None:
        store.retire(conn, user_id, password_hash, clock.utcnow(), service.options.unique_last_password_count - 1)


def of_update(
    service: Service,
    conn: sa.Connection,
    user_id: str,
    body: Mapping[str, Any],
    before: Options,
    after: Options,
    password_hash: str | None,
) -> dict[str, Any]:
    """The columns that an administrator's change of a user brings with it; the row is locked. Enabling a user unlocks, and
    counts as activity.
    """
    present = store.present(conn, user_id)
    if present is None:
        return {}
    values: dict[str, Any] = {}
    if body.get("enabled"):
        values.update(failed_auth_count=0, failed_auth_at=None)
    if "password" in body:
        retire(service, conn, user_id, present.password_hash)
        values.update(of_new_password(service, password_hash, after, self_service=False))
    elif bool(before.get("ignore_password_expiry")) != bool(after.get("ignore_password_expiry")):
        since, chosen = present.password_changed_at, present.password_self_service
        counts = present.password_hash is not None and since is not None
        values["password_expires_at"] = expires_at(service, after, since, self_service=chosen) if counts else None
    exempt = bool(after.get("ignore_user_inactivity"))
    if exempt:
        values["last_active_at"] = None
    elif before.get("ignore_user_inactivity") or (body.get("enabled") and present.last_active_at is not None):
        values["last_active_at"] = clock.utcnow().date()
    return values


# Activity -------------------------------------------------------------------------------------------------------------


def inactive_until(service: Service) -> dt.date | None:
    """Who was last active on this day or before is inactive; None when nobody ever is."""
    days = service.options.disable_user_account_days_inactive
    return clock.utcnow().date() - dt.timedelta(days=days) if days else None


def is_inactive(service: Service, last_active: dt.date | None) -> bool:
    """Without a day a user is never inactive: exempt, or one of a service."""
    until = inactive_until(service)
    return until is not None and last_active is not None and last_active <= until


def note_active(service: Service, user_id: str, last: dt.date | None) -> None:
    """A user who was last active on that day has logged in. Written once a day at most."""
    today = clock.utcnow().date()
    if last is not None and last < today:
        with service.db.write() as conn:
            store.note_active(conn, user_id, today)
