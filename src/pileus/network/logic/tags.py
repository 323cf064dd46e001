"""Tags: written with the resource's revision."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore, retried
from pileus.kernel.service import Service
from pileus.network import errors
from pileus.network.logic.change import fetch, update
from pileus.network.store import render
from pileus.network.store import tables as t
from pileus.network.store.kinds import Kind


@retried
def replace(service: Service, kind: Kind, id: str, tags: Sequence[str]) -> list[str]:
    """Make these the resource's tags; what it then has. Raises the kind's error."""
    with service.db.write() as conn:
        fetch(conn, kind.table, id, kind.missing, lock=True)
        conn.execute(sa.delete(t.tags).where(t.tags.c.resource_id == id))
        insert_ignore(conn, t.tags, [{"resource_id": id, "tag": tag} for tag in tags])
        update(conn, kind.table, id, {})
        return render.tags_of(conn, [id]).get(id, [])


@retried
def add(service: Service, kind: Kind, id: str, tags: Sequence[str]) -> list[str]:
    """Add tags; what the resource then has. Raises the kind's error."""
    with service.db.write() as conn:
        fetch(conn, kind.table, id, kind.missing, lock=True)
        if insert_ignore(conn, t.tags, [{"resource_id": id, "tag": tag} for tag in tags]):
            update(conn, kind.table, id, {})
        return render.tags_of(conn, [id]).get(id, [])


@retried
def remove(service: Service, kind: Kind, id: str, tag: str) -> None:
    """Remove one tag. Raises TagNotFound, the kind's error."""
    with service.db.write() as conn:
        fetch(conn, kind.table, id, kind.missing, lock=True)
        table = t.tags
        if not conn.execute(sa.delete(table).where(table.c.resource_id == id, table.c.tag == tag)).rowcount:
            raise errors.TagNotFound(tag)
        update(conn, kind.table, id, {})
