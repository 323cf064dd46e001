"""Commands and queries on groups and their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import not_found
from pileus.identity.store import directories as directory_store
from pileus.identity.store import listing, people, revision
from pileus.identity.store.listing import Listing, Lock, Record
from pileus.identity.store.tables import GROUP, groups
from pileus.kernel import ids
from pileus.kernel.service import Service

from . import compliance, shadows
from .common import check_same_domain, check_same_id, extra_of, merged_extra, unique_name
from .directories import forbid_writes
from .users import require_domain

KNOWN = frozenset({"id", "name", "domain_id", "description"})


def find(service: Service, group_id: str) -> Record | None:
    with service.db.read() as conn:
        return people.group(conn, group_id)


def list_groups(service: Service, wanted: Listing) -> Sequence[Any]:
    """The groups of one directory as they are there, else what the database knows."""
    place = shadows.place_of(service, wanted)
    if place is not None:
        return shadows.list_entries(service, place, GROUP, wanted)
    with service.db.read() as conn:
        return listing.select(conn, people.GROUP_COLUMNS, groups, wanted)


def create(service: Service, body: Mapping[str, Any], group_id: str | None = None) -> Record:
    """Create a group in an existing domain. Raises AlreadyExists, NotFound for the domain."""
    group_id = group_id or ids.new_id()
    name, domain_id = body["name"].strip(), body["domain_id"]
    with unique_name("group", name, domain_id), service.db.write() as conn:
        require_domain(conn, domain_id)
        forbid_writes(conn, domain_id, "groups")
        values = {
            "id": group_id,
            "domain_id": domain_id,
            "name": name,
            "description": body.get("description") or "",
            "extra": extra_of(body, KNOWN),
        }
        conn.execute(sa.insert(groups).values(**values))
        return _required(conn, group_id)


def update(service: Service, group_id: str, body: Mapping[str, Any]) -> Record:
    """Raises NotFound, AlreadyExists, Invalid."""
    check_same_id("group", group_id, body)
    with unique_name("group", str(body.get("name")), body.get("domain_id")), service.db.write() as conn:
        present = _required(conn, group_id, "update")
        forbid_writes(conn, present.domain_id, "groups")
        check_same_domain(present.domain_id, body)
        values: dict[str, Any] = {"extra": merged_extra(present.extra, body, KNOWN)}
        if "name" in body:
            values["name"] = body["name"].strip()
        if "description" in body:
            values["description"] = body["description"] or ""
        listing.change(conn, groups, group_id, values)
        return _required(conn, group_id)


def delete(service: Service, group_id: str) -> None:
    """Delete a group with its assignments: its members lose those roles at once. Raises NotFound, ReadOnly."""
    with service.db.write() as conn:
        present = people.group(conn, group_id, "update")
        if present is not None and directory_store.is_there(conn, group_id):
            forbid_writes(conn, present.domain_id, "groups")
        if not people.delete_group(conn, group_id):
            raise not_found("group", group_id)
        revision.advance(conn)


def list_members(service: Service, group_id: str, wanted: Listing) -> Sequence[Record]:
    with service.db.read() as conn:
        return people.members_of(conn, group_id, wanted, compliance.inactive_until(service))


def is_member(service: Service, group_id: str, user_id: str) -> bool:
    with service.db.read() as conn:
        return people.is_member(conn, user_id, group_id)


def add_member(service: Service, group_id: str, user_id: str) -> None:
    """Both were looked up before; a member added twice is added once."""
    with service.db.write() as conn:
        user = people.user(conn, user_id, "share")
        if user is None:
            raise not_found("user", user_id)
        group = _required(conn, group_id, "share")
        for domain_id in {user.domain_id, group.domain_id}:
            forbid_writes(conn, domain_id, "memberships")
        people.add_member(conn, user_id, group_id)
        revision.advance(conn)


def remove_member(service: Service, group_id: str, user_id: str) -> None:
    """Raises NotFound when the user is no member."""
    with service.db.write() as conn:
        forbid_writes(conn, _required(conn, group_id).domain_id, "memberships")
        if not people.remove_member(conn, user_id, group_id):
            raise not_found("user in group", f"{user_id} in {group_id}")
        revision.advance(conn)


def _required(conn: sa.Connection, group_id: str, lock: Lock = None) -> Record:
    row = people.group(conn, group_id, lock)
    if row is None:
        raise not_found("group", group_id)
    return row
