"""Flavors: who sees which, making, changing and removing them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pileus.compute.errors import BadRequest, FlavorNotFound
from pileus.compute.store import flavors as store
from pileus.compute.store.tables import FLAVORS
from pileus.kernel import clock, ids
from pileus.kernel.context import Context
from pileus.kernel.db import is_unique_violation
from pileus.kernel.errors import Conflict, NotFound
from pileus.kernel.service import Service

Row = dict[str, Any]


def get_flavor(conn: sa.Connection, context: Context, flavorid: str) -> Row:
    """A flavor that the caller may see, with `extra_specs`. Raises `FlavorNotFound`."""
    visible = None if context.is_admin or context.is_service else store.visible_to(context.project_id)
    row = store.get(conn, flavorid, visible=visible)
    if row is None:
        raise FlavorNotFound(flavorid)
    return row


@dataclass(frozen=True, kw_only=True)
class FlavorFilters:
    """What a list of flavors is narrowed to; `is_public` None = both kinds (administrators only)."""

    is_public: bool | None = True
    min_ram: int = 0
    min_disk: int = 0


def list_flavors(
    service: Service,
    context: Context,
    filters: FlavorFilters,
    *,
    sort: list[tuple[str, str]],
    marker: str | None,
    limit: int,
    with_specs: bool,
) -> list[Row]:
    """One page of flavors; with `extra_specs` when asked for. Raises `BadRequest` for an unknown marker."""
    where: list[sa.ColumnElement[bool]] = []
    if filters.is_public is True:
        where.append(store.visible_to(context.project_id))
    elif filters.is_public is False:
        where.append(FLAVORS.c.is_public.is_(False))
    if not context.is_admin:
        where.append(FLAVORS.c.disabled.is_(False))
    if filters.min_ram:
        where.append(FLAVORS.c.memory_mb >= filters.min_ram)
    if filters.min_disk:
        where.append(FLAVORS.c.root_gb >= filters.min_disk)
    order = [FLAVORS.c[key].desc() if direction == "desc" else FLAVORS.c[key].asc() for key, direction in sort]
    with service.db.read() as conn:
        after = None
        if marker is not None:
            after = conn.execute(sa.select(FLAVORS.c.id).where(FLAVORS.c.flavorid == marker)).scalar()
            if after is None:
                raise BadRequest(f"marker [{marker}] not found")
        rows = store.listing(conn, where, [*order, FLAVORS.c.id.asc()], after, limit)
        if rows is None:
            raise BadRequest(f"marker [{marker}] not found")
        if with_specs:
            specs = store.extra_specs(conn, [row["id"] for row in rows])
            for row in rows:
                row["extra_specs"] = specs.get(row["id"], {})
    return rows


def create_flavor(service: Service, values: Mapping[str, Any]) -> Row:
    """Make a flavor; a private one is nobody's yet. Raises `Conflict` for a taken id or name."""
    flavorid = values.get("flavorid") or ids.new_uuid()
    row = {**values, "flavorid": flavorid, "disabled": False, "created_at": clock.utcnow(), "updated_at": None}
    try:
        with service.db.write() as conn:
            key = conn.execute(FLAVORS.insert().values(**row)).inserted_primary_key
            assert key is not None
    except sa.exc.IntegrityError as error:
        if is_unique_violation(error, "flavors.flavorid", "uq_flavors_flavorid"):
            raise Conflict(f"Flavor with ID {flavorid} already exists.") from None
        if is_unique_violation(error):
            raise Conflict(f"Flavor with name {row['name']} already exists.") from None
        raise
    return {**row, "id": key[0], "extra_specs": {}}


def set_description(service: Service, context: Context, flavorid: str, description: str | None) -> Row:
    with service.db.write() as conn:
        row = get_flavor(conn, context, flavorid)
        changed = {"description": description, "updated_at": clock.utcnow()}
        conn.execute(FLAVORS.update().where(FLAVORS.c.id == row["id"]).values(**changed))
    return {**row, **changed}


def delete_flavor(service: Service, context: Context, flavorid: str) -> None:
    """Remove a flavor. Servers keep their copies."""
    with service.db.write() as conn:
        row = get_flavor(conn, context, flavorid)
        conn.execute(FLAVORS.delete().where(FLAVORS.c.id == row["id"]))


def list_access(service: Service, context: Context, flavorid: str) -> list[str]:
    """The projects that a private flavor is given to. Raises `NotFound` for a public one."""
    with service.db.read() as conn:
        row = get_flavor(conn, context, flavorid)
        if row["is_public"]:
            raise NotFound("Access list not available for public flavors.")
        return store.projects(conn, row["id"])


def add_access(service: Service, context: Context, flavorid: str, project_id: str, *, refuse_public: bool) -> list[str]:
    """Give a flavor to a project. Raises `Conflict` when it has it or, if so wanted, the flavor is public."""
    try:
        with service.db.write() as conn:
            row = get_flavor(conn, context, flavorid)
            if row["is_public"] and refuse_public:
                raise Conflict("Can not add access to a public flavor.")
            store.add_project(conn, row["id"], project_id)
            return store.projects(conn, row["id"])
    except sa.exc.IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise Conflict(
            f"Flavor access already exists for flavor {flavorid} and project {project_id} combination."
        ) from None


def remove_access(service: Service, context: Context, flavorid: str, project_id: str) -> list[str]:
    with service.db.write() as conn:
        row = get_flavor(conn, context, flavorid)
        if not store.remove_project(conn, row["id"], project_id):
            raise NotFound(f"Flavor access not found for {flavorid} / {project_id} combination.")
        return store.projects(conn, row["id"])


_TRAIT = re.compile(r"(CUSTOM_[A-Z0-9_]+|[A-Z][A-Z0-9_]+)\Z")
_KNOWN_NAMESPACES = frozenset(
    [
        "accel",
        "aggregate_instance_extra_specs",
        "capabilities",
        "hide_hypervisor_id",
        "hw",
        "hw_rng",
        "hw_video",
        "os",
        "os_secure_boot",
        "pci_passthrough",
        "powervm",
        "quota",
        "resources",
        "trait",
        "vmware",
    ]
)
_PLAIN_PREFIXES = ("aggregate_instance_extra_specs:", "capabilities:", "vmware:", "powervm:", "accel:", "hw_video:")
_QUOTAS = re.compile(
    r"quota:(cpu_(limit|period|quota|reservation|shares|shares_level|shares_share)"
    r"|(memory|disk_io|vif)_(limit|reservation|shares_level|shares_share)"
    r"|disk_(read|write|total)_(bytes|iops)_sec(_max|_max_length)?|vif_(inbound|outbound)_(average|burst|peak))\Z"
)
_CHOICES: Mapping[str, frozenset[str]] = {
    "hw:cpu_policy": frozenset(("dedicated", "shared", "mixed")),
    "hw:cpu_thread_policy": frozenset(("prefer", "isolate", "require")),
    "hw:mem_page_size": frozenset(("small", "large", "any")),
    "hw:watchdog_action": frozenset(("none", "pause", "poweroff", "reset", "disabled")),
    "hw:numa_mem_policy": frozenset(("preferred", "strict", "interleave")),
    "hw:emulator_threads_policy": frozenset(("isolate", "share")),
    "hw:pci_numa_affinity_policy": frozenset(("required", "preferred", "legacy", "socket")),
    "os:secure_boot": frozenset(("optional", "required", "disabled")),
}


def check_extra_spec(key: str, value: str) -> None:
    """Refuse extra specs of the known namespaces that mean nothing (microversion 2.86). Raises `BadRequest`.

    Names without a namespace, and of namespaces that are an operator's own, pass.
    """
    namespace, colon, rest = key.partition(":")
    base = re.sub(r"\d+\Z", "", namespace) if namespace.startswith(("trait", "resources")) else namespace
    if not colon or base.split(".")[0] not in _KNOWN_NAMESPACES:
        return
    problem = ""
    if base == "trait":
        problem = "" if _TRAIT.match(rest) and value in {"required", "forbidden"} else "needs required or forbidden"
    elif base == "resources":
        problem = "" if rest.isupper() and value.isdigit() else "needs a resource class and a whole number"
    elif base == "quota":
        known = _QUOTAS.match(key) is not None
        problem = "" if known and (value.lstrip("-").isdigit() or "level" in key) else "is not known or no number"
    elif key in _CHOICES:
        numeric = key == "hw:mem_page_size" and re.match(r"\d+([kKMGT](i?B)?)?\Z", value)
        problem = "" if value in _CHOICES[key] or numeric else f"needs one of {', '.join(sorted(_CHOICES[key]))}"
    elif not rest or not re.match(r"[a-zA-Z0-9_.:<>= -]+\Z", rest):
        problem = "is not known"
    if problem:
        raise BadRequest(f"Validation failed; extra spec '{key}' with value '{value}' {problem}.")


def set_extra_specs(service: Service, context: Context, flavorid: str, specs: Mapping[str, str]) -> None:
    with service.db.write() as conn:
        store.set_extra_specs(conn, get_flavor(conn, context, flavorid)["id"], specs)


def delete_extra_spec(service: Service, context: Context, flavorid: str, key: str) -> None:
    with service.db.write() as conn:
        row = get_flavor(conn, context, flavorid)
        if not store.remove_extra_spec(conn, row["id"], key):
            raise NotFound(f"Flavor {flavorid} has no extra specs with key {key}.")
