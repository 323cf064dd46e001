"""SQL of images with their properties, tags and members."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pileus.image.store.tables import image_members, image_properties, image_tags, images, removals, retired_ids
from pileus.kernel import clock
from pileus.kernel.db import insert_ignore

_I = images.c
_M = image_members.c
_DEFAULTS = {
    "name": None,
    "owner": None,
    "status": "queued",
    "visibility": "shared",
    "disk_format": None,
    "container_format": None,
    "min_disk": 0,
    "min_ram": 0,
    "protected": False,
    "os_hidden": False,
}


@dataclass(frozen=True)
class Image:
    """One image with what hangs on it. `row` has the columns of the table."""

    row: Mapping[Any, Any]
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()

    @property
    def id(self) -> str:
        return str(self.row["id"])

    @property
    def status(self) -> str:
        return str(self.row["status"])

    @property
    def owner(self) -> str | None:
        owner: str | None = self.row["owner"]
        return owner

    @property
    def visibility(self) -> str:
        return str(self.row["visibility"])


def find(conn: sa.Connection, image_id: str) -> Image | None:
    row = conn.execute(sa.select(images).where(_I.id == image_id)).mappings().first()
    return assemble(conn, [row])[0] if row else None


def assemble(conn: sa.Connection, rows: Sequence[Mapping[Any, Any]]) -> list[Image]:
    """Rows with their properties and tags: two statements, whatever the number of rows."""
    keys = [row["id"] for row in rows]
    if not keys:
        return []
    properties: dict[str, dict[str, str]] = {}
    chosen = sa.select(image_properties).where(image_properties.c.image_id.in_(keys))
    for key, name, value in conn.execute(chosen.order_by(image_properties.c.name)):
        properties.setdefault(key, {})[name] = value
    tags: dict[str, list[str]] = {}
    for key, value in conn.execute(
        sa.select(image_tags).where(image_tags.c.image_id.in_(keys)).order_by(image_tags.c.value)
    ):
        tags.setdefault(key, []).append(value)
    return [Image(row, properties.get(row["id"], {}), tags.get(row["id"], ())) for row in rows]


def insert(
    conn: sa.Connection, values: Mapping[str, Any], properties: Mapping[str, str], tags: Collection[str]
) -> None:
    now = clock.utcnow()
    conn.execute(sa.insert(images).values({**_DEFAULTS, **values, "created_at": now, "updated_at": now, "version": 0}))
    _add_properties(conn, values["id"], properties)
    _add_tags(conn, values["id"], tags)


def _add_properties(conn: sa.Connection, image_id: str, properties: Mapping[str, str]) -> None:
    if properties:
        rows = [{"image_id": image_id, "name": name, "value": value} for name, value in properties.items()]
        conn.execute(sa.insert(image_properties), rows)


def _add_tags(conn: sa.Connection, image_id: str, tags: Collection[str]) -> None:
    if tags:
        conn.execute(sa.insert(image_tags), [{"image_id": image_id, "value": tag} for tag in sorted(set(tags))])


def update(
    conn: sa.Connection,
    image: Image,
    values: Mapping[str, Any],
    properties: Mapping[str, str] | None = None,
    tags: Collection[str] | None = None,
) -> bool:
    """Write changes over the image as it was read; False when somebody else has changed it since."""
    change = (
        sa.update(images)
        .where(_I.id == image.id, _I.version == image.row["version"])
        .values({**values, "version": _I.version + 1, "updated_at": clock.utcnow()})
    )
    if conn.execute(change).rowcount != 1:
        return False
    if properties is not None and properties != image.properties:
        conn.execute(sa.delete(image_properties).where(image_properties.c.image_id == image.id))
        _add_properties(conn, image.id, properties)
    if tags is not None and set(tags) != set(image.tags):
        conn.execute(sa.delete(image_tags).where(image_tags.c.image_id == image.id))
        _add_tags(conn, image.id, tags)
    return True


def lock(conn: sa.Connection, image_id: str) -> bool:
    """Hold the image's row until the transaction ends; False when there is no such image."""
    query = sa.select(_I.id).where(_I.id == image_id).with_for_update()
    return conn.execute(query).first() is not None


def transition(conn: sa.Connection, image_id: str, conditions: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Write `values` if the image still is as `conditions` say."""
    mine = [_I[name] == value if value is not None else _I[name].is_(None) for name, value in conditions.items()]
    change = (
        sa.update(images)
        .where(_I.id == image_id, *mine)
        .values({**values, "version": _I.version + 1, "updated_at": clock.utcnow()})
    )
    return conn.execute(change).rowcount == 1


def delete(conn: sa.Connection, image: Image) -> bool:
    """Remove the image as it was read, with all that hangs on it, and note its data for removal; False when it has
    changed since.
    """
    mine = sa.and_(_I.id == image.id, _I.version == image.row["version"])
    if conn.execute(sa.delete(images).where(mine)).rowcount != 1:
        return False
    for key in filter(None, (image.row["data_key"], image.row["upload_key"])):
        note_removal(conn, key)
    insert_ignore(conn, retired_ids, [{"id": image.id}])
    return True


def is_retired(conn: sa.Connection, image_id: str) -> bool:
    """Whether an image that is gone had this id."""
    return conn.execute(sa.select(retired_ids.c.id).where(retired_ids.c.id == image_id)).first() is not None


def note_removal(conn: sa.Connection, data_key: str) -> None:
    insert_ignore(conn, removals, [{"data_key": data_key, "created_at": clock.utcnow()}])


def pending_removals(conn: sa.Connection) -> list[str]:
    return list(conn.execute(sa.select(removals.c.data_key).order_by(removals.c.created_at)).scalars())


def forget_removal(conn: sa.Connection, data_key: str) -> None:
    conn.execute(sa.delete(removals).where(removals.c.data_key == data_key))


def unfinished_uploads(conn: sa.Connection, before: dt.datetime) -> Sequence[Mapping[Any, Any]]:
    """Images whose data a writer began before a moment."""
    query = sa.select(images).where(_I.upload_host.is_not(None), _I.upload_since < before)
    return conn.execute(query).mappings().all()


def known_keys(conn: sa.Connection, keys: Collection[str]) -> set[str]:
    """Those of the keys that an image has as its data or is being filled under."""
    query = sa.select(_I.data_key, _I.upload_key).where(sa.or_(_I.data_key.in_(keys), _I.upload_key.in_(keys)))
    return {key for row in conn.execute(query) for key in row if key}


# -------------------------------------------------------------------------------------------------------------- lists


def visible(project_id: str | None, member_status: str | None, *, everything: bool) -> sa.ColumnElement[bool] | None:
    """What a project may see: its own, public and community images, and those shared with it in a given state.

    `member_status` None: in any state. None is returned for those who see everything.
    """
    if everything:
        return None
    alternatives: list[sa.ColumnElement[bool]] = [_I.visibility.in_(["public", "community"])]
    if project_id is not None:
        shared = sa.select(_M.image_id).where(_M.member == project_id)
        if member_status is not None:
            shared = shared.where(_M.status == member_status)
        alternatives += [_I.owner == project_id, sa.and_(_I.visibility == "shared", _I.id.in_(shared))]
    return sa.or_(*alternatives)


def with_tag(tag: str) -> sa.ColumnElement[bool]:
    return _I.id.in_(sa.select(image_tags.c.image_id).where(image_tags.c.value == tag))


def with_property(name: str, value: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        image_properties.c.image_id == _I.id, image_properties.c.name == name, image_properties.c.value == value
    )


# ------------------------------------------------------------------------------------------------------------ members


def members(conn: sa.Connection, image_id: str) -> Sequence[Mapping[Any, Any]]:
    query = sa.select(image_members).where(_M.image_id == image_id).order_by(_M.created_at, _M.member)
    return conn.execute(query).mappings().all()


def member(conn: sa.Connection, image_id: str, project_id: str) -> Mapping[Any, Any] | None:
    query = sa.select(image_members).where(_M.image_id == image_id, _M.member == project_id)
    return conn.execute(query).mappings().first()


def add_member(conn: sa.Connection, image_id: str, project_id: str) -> bool:
    now = clock.utcnow()
    row = {"image_id": image_id, "member": project_id, "status": "pending", "created_at": now, "updated_at": now}
    return insert_ignore(conn, image_members, [row]) == 1


def set_member_status(conn: sa.Connection, image_id: str, project_id: str, status: str) -> None:
    change = sa.update(image_members).where(_M.image_id == image_id, _M.member == project_id)
    conn.execute(change.values(status=status, updated_at=clock.utcnow()))


def delete_member(conn: sa.Connection, image_id: str, project_id: str) -> bool:
    gone = sa.delete(image_members).where(_M.image_id == image_id, _M.member == project_id)
    return conn.execute(gone).rowcount == 1
