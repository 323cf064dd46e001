"""Resource providers: making, changing, finding and removing them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.kernel import ids
from pileus.kernel.db import is_unique_violation
from pileus.kernel.service import Service
from pileus.placement.errors import BadRequest, CannotDeleteParent, DuplicateName, ProviderInUse, ProviderNotFound
from pileus.placement.logic.model import Group, ProviderFilter
from pileus.placement.store import providers as store
from pileus.placement.store import snapshot
from pileus.placement.store.snapshot import Provider, Snapshot

KEEP: Any = object()
"""Parent argument of `update_provider`: leave it as it is."""


def create_provider(service: Service, name: str, uuid: str | None, parent_uuid: str | None) -> store.Row:
    """A new provider, at the top of its own tree or below `parent_uuid`."""
    uuid = dashed(uuid) if uuid else ids.new_uuid()
    if parent_uuid is not None:
        parent_uuid = dashed(parent_uuid)
    refused = f'Unable to create resource provider "{name}", {uuid}: '
    if parent_uuid == uuid:
        raise BadRequest(
            refused + "parent provider UUID cannot be same as UUID. Create a root provider without parent."
        )
    try:
        with service.db.write() as conn:
            parent = store.find(conn, parent_uuid) if parent_uuid else None
            if parent_uuid and (parent is None or not store.lock(conn, [parent["id"]])):
                raise BadRequest(refused + "parent provider UUID does not exist.")
            store.insert(conn, uuid, name, parent)
            return store.get(conn, uuid)
    except sa.exc.IntegrityError as error:
        if is_unique_violation(error, "resource_providers.uuid", "uq_resource_providers_uuid"):
            raise DuplicateName(f"Conflicting resource provider uuid: {uuid} already exists.") from None
        if is_unique_violation(error):
            raise DuplicateName(f"Conflicting resource provider name: {name} already exists.") from None
        raise


def dashed(uuid: str) -> str:
    """A UUID in its usual form, whatever its dashes and case."""
    text = uuid.replace("-", "").lower()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def update_provider(service: Service, uuid: str, name: str, parent_uuid: str | None, *, reparent: bool) -> store.Row:
    """Rename a provider and, unless `parent_uuid` is KEEP, hang it elsewhere.

    Without `reparent` (callers below 1.37) only a provider that has no parent may be given one.
    """
    try:
        with service.db.write() as conn:
            provider = store.get(conn, uuid)
            store.revise(conn, [provider["id"]])
            if name != provider["name"]:
                store.rename(conn, provider["id"], name)
            if parent_uuid is not KEEP:
                _move(conn, provider, dashed(parent_uuid) if parent_uuid else None, reparent=reparent)
            return store.get(conn, uuid)
    except sa.exc.IntegrityError as error:
        if is_unique_violation(error):
            raise DuplicateName(f"Conflicting resource provider {name} already exists.") from None
        raise


def _move(conn: sa.Connection, provider: store.Row, parent_uuid: str | None, *, reparent: bool) -> None:
    if parent_uuid == provider["parent_uuid"]:
        return
    refused = f'Unable to save resource provider "{provider["name"]}": '
    if provider["parent_id"] is not None and not reparent:
        if parent_uuid is None:
            raise BadRequest(refused + "un-parenting a provider is not currently allowed.")
        raise BadRequest(refused + "re-parenting a provider is not currently allowed.")
    if parent_uuid == provider["uuid"]:
        raise BadRequest(refused + "creating loop in the provider tree is not allowed.")
    parent = store.find(conn, parent_uuid) if parent_uuid else None
    if parent_uuid and parent is None:
        raise BadRequest(refused + "parent provider UUID does not exist.")
    # Both roots are held: two moves that would close a circle between two trees wait for each other, and the second one sees the first.
    tops = {provider["root_id"]} | ({parent["root_id"]} if parent else set())
    store.lock(conn, tops | {provider["id"]})
    members = _below(store.tree_links(conn, provider["root_id"]), provider["id"])
    if parent is not None:
        parent = store.get(conn, parent["uuid"])
        if parent["id"] in members:
            raise BadRequest(refused + "creating loop in the provider tree is not allowed.")
    root_id = parent["root_id"] if parent else provider["id"]
    store.move_subtree(conn, provider["id"], members, parent["id"] if parent else None, root_id)


def _below(links: dict[int, int | None], top: int) -> set[int]:
    """`top` and everything under it."""
    children: dict[int | None, list[int]] = {}
    for child, parent in links.items():
        children.setdefault(parent, []).append(child)
    members, queue = {top}, [top]
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in members:
                members.add(child)
                queue.append(child)
    return members


def delete_provider(service: Service, uuid: str) -> None:
    with service.db.write() as conn:
        provider = store.get(conn, uuid, "for delete")
        if not store.lock(conn, [provider["id"]]):
            raise ProviderNotFound(uuid, "for delete")
        if store.has_children(conn, provider["id"]):
            raise CannotDeleteParent(
                f"Unable to delete parent resource provider {uuid}: It has child resource providers."
            )
        if store.has_allocations(conn, provider["id"]):
            raise ProviderInUse(f"Unable to delete resource provider {uuid}: Resource provider has allocations.")
        store.delete(conn, provider["id"])


def get_provider(service: Service, uuid: str) -> store.Row:
    with service.db.read() as conn:
        return store.get(conn, uuid)


def find_providers(service: Service, wanted: ProviderFilter) -> tuple[Snapshot, list[Provider]]:
    """The providers that meet every condition, in order of making, and the snapshot they are from."""
    check_names(
        service, wanted.group.resources, wanted.group.traits(), where='Invalid trait(s) in "required" parameter: '
    )
    now = snapshot.current(service.db)
    group = wanted.group
    tree = now.by_uuid(dashed(group.in_tree)) if group.in_tree else None
    if group.in_tree and tree is None:
        return now, []
    return now, [
        provider
        for provider in now.by_id.values()
        if (wanted.uuid is None or provider.uuid == wanted.uuid)
        and (wanted.name is None or provider.name == wanted.name)
        and (tree is None or provider.root_id == tree.root_id)
        and _serves(provider, group)
    ]


def _serves(provider: Provider, group: Group) -> bool:
    """Whether this one provider meets the group's conditions and has room for its resources."""
    return (
        all(wanted & provider.aggregates for wanted in group.member_of)
        and not group.not_member_of & provider.aggregates
        and all(wanted & provider.traits for wanted in group.required)
        and not group.forbidden & provider.traits
        and all(
            name in provider.inventories and provider.inventories[name].fits(amount)
            for name, amount in group.resources.items()
        )
    )


def check_names(service: Service, resource_classes: Any, traits: Any, *, where: str = "") -> None:
    """Raise BadRequest for resource classes and traits nobody has ever heard of. Asks the database for custom ones only."""
    if not store.custom_among(resource_classes, traits):
        return
    with service.db.read() as conn:
        missing = store.unknown_resource_classes(conn, resource_classes, hold=False)
        if missing:
            raise BadRequest(
                f"Invalid resource class in resources parameter: No such resource class {', '.join(missing)}."
            )
        missing = store.unknown_traits(conn, traits, hold=False)
        if missing:
            raise BadRequest(f"{where}No such trait(s): {', '.join(missing)}.")
