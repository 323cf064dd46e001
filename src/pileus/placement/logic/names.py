"""Traits and resource classes as names: which exist, and making and removing custom ones."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from pileus.kernel.db import is_unique_violation
from pileus.kernel.service import Service
from pileus.placement.errors import BadRequest, Missing, Refused
from pileus.placement.store import providers as store
from pileus.placement.store import standard
from pileus.placement.store.tables import custom_resource_classes, custom_traits

Named = tuple[str, dt.datetime | None]
"""A name and when it was made; None for a standard one, which always was."""


def list_traits(service: Service, *, among: frozenset[str] | None, prefix: str, associated: bool | None) -> list[Named]:
    """Traits, standard ones first; all, or those that are in `among`, begin with `prefix`, are (not) on some provider."""
    with service.db.read() as conn:
        rows = store.custom_rows(conn, custom_traits)
        used = store.traits_in_use(conn) if associated is not None else set()
    named: list[Named] = [(name, None) for name in standard.TRAITS]
    named += [(row["name"], row["updated_at"]) for row in rows]
    return [
        pair
        for pair in named
        if (among is None or pair[0] in among)
        and pair[0].startswith(prefix)
        and (associated is None or (pair[0] in used) == associated)
    ]


def get_trait(service: Service, name: str) -> Named:
    if name in standard.TRAIT_SET:
        return name, None
    with service.db.read() as conn:
        row = store.custom_row(conn, custom_traits, name)
    if row is None:
        raise Missing(f"No such trait(s): {name}.")
    return name, row["updated_at"]


def put_trait(service: Service, name: str) -> bool:
    """Make a custom trait; False when it was there."""
    with service.db.write() as conn:
        return store.add_custom(conn, custom_traits, name)


def delete_trait(service: Service, name: str) -> None:
    if name in standard.TRAIT_SET:
        raise BadRequest(f"Cannot delete standard trait {name}.")
    with service.db.write() as conn:
        if store.custom_row(conn, custom_traits, name, hold=True) is None:
            raise Missing(f"No such trait(s): {name}.")
        if store.trait_in_use(conn, name):
            raise Refused(f"The trait {name} is in use by a resource provider.")
        store.delete_custom(conn, custom_traits, name)


def list_resource_classes(service: Service) -> list[Named]:
    with service.db.read() as conn:
        rows = store.custom_rows(conn, custom_resource_classes)
    named: list[Named] = [(name, None) for name in standard.RESOURCE_CLASSES]
    return named + [(row["name"], row["updated_at"]) for row in rows]


def get_resource_class(service: Service, name: str) -> Named:
    if name in standard.RESOURCE_CLASS_SET:
        return name, None
    with service.db.read() as conn:
        row = store.custom_row(conn, custom_resource_classes, name)
    if row is None:
        raise Missing(f"No such resource class {name}.")
    return name, row["updated_at"]


def put_resource_class(service: Service, name: str) -> bool:
    """Make a custom class; False when it was there."""
    with service.db.write() as conn:
        return store.add_custom(conn, custom_resource_classes, name)


def rename_resource_class(service: Service, old: str, new: str) -> None:
    """Give a custom class another name (callers below 1.7)."""
    if old in standard.RESOURCE_CLASS_SET:
        raise BadRequest(f"Cannot update standard resource class {old}")
    try:
        with service.db.write() as conn:
            if store.custom_row(conn, custom_resource_classes, old, hold=True) is None:
                raise Missing(f"No such resource class {old}.")
            store.rename_class(conn, old, new)
    except sa.exc.IntegrityError as error:
        if is_unique_violation(error):
            raise Refused(f"Resource class already exists: {new}") from None
        raise


def delete_resource_class(service: Service, name: str) -> None:
    if name in standard.RESOURCE_CLASS_SET:
        raise BadRequest(f"Error in delete resource class: Cannot delete standard resource class {name}.")
    with service.db.write() as conn:
        if store.custom_row(conn, custom_resource_classes, name, hold=True) is None:
            raise Missing(f"No such resource class {name}.")
        if store.class_in_use(conn, name):
            raise Refused(f"Error in delete resource class: Class is in use in inventory: {name}")
        store.delete_custom(conn, custom_resource_classes, name)
