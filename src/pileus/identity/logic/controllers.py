"""Controllers that join a cloud. All are equal, so a new one gets what each of them has: the installation secret, the
authority, the configuration, the policies. What it has learned cannot be taken back; removed, it stops and does not start again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.identity.store import nodes as store
from pileus.identity.store.listing import Record
from pileus.kernel import installation
from pileus.kernel.config import HOME, Config
from pileus.kernel.errors import Conflict
from pileus.kernel.service import Service

ROLE = "controller"
_FILES = ("keys/installation-secret", "tls/ca.key", "etc/*-policy.yaml")
"""What all controllers have the same below their homes, beside the certificate of the authority."""


def is_controller(record: Record) -> bool:
    return record.principal is None


def missing(config: Config) -> str:
    """What has to be configured before a second controller can join; "" when nothing has."""
    if not config.shares_databases:
        return "Controllers share databases on a server: set database.url to PostgreSQL or MariaDB (see docs/operate/databases.md)."
    if not config.bus.url:
        return "Controllers need RabbitMQ between them: set bus.url (see docs/operate/several-controllers.md)."
    if not config.api.public_url:
        return "Clients need one address for all controllers: set api.public_url to that of the load balancer."
    images = config.section("image") if "image" in config.pileus.services else None
    if images is not None and images.store_driver == "file" and _is_own(config, images.store_directory):
        return "Controllers share the images: set image.store_directory to a directory that all machines mount."
    return ""


def _is_own(config: Config, folder: str) -> bool:
    return not folder or folder.startswith(f"{config.home}/")


def admit(service: Service, conn: sa.Connection, name: str, roles: list[str]) -> Record:
    """Put a new controller on record. Raises Conflict for a name that is taken."""
    known = store.named(conn, name)
    is_free = known is None or known.state == store.REMOVED
    if not is_free or not installation.admit(conn, name, service.config.base_url, roles):
        raise Conflict(f"There is a machine {name} already; `pileus node remove {name}` makes its name free.")
    made = store.named(conn, name)
    assert made is not None
    return made


def given(config: Config, name: str, roles: list[str]) -> dict[str, Any]:
    """Configuration and files of a new controller, but for what is its own: where it listens, and its certificate."""
    settings = config.common()
    settings["pileus"] = {"host": name, "roles": roles, **settings.get("pileus", {})}
    paths = sorted(path for pattern in _FILES for path in config.home.glob(pattern))
    files = {path.relative_to(config.home).as_posix(): path.read_text() for path in paths}
    return {"settings": settings, "files": files, "home": HOME}


def remove(service: Service, name: str) -> None:
    """A controller is out: it stops within seconds, and does not start again. Raises Conflict for the last one."""
    with service.db.write() as conn:
        members = {each.name for each in store.controllers(conn, "update") if each.state in store.MEMBERS}
        if members == {name}:
            raise Conflict(f"{name} is the only controller of this cloud: `pileus destroy --yes` there removes the cloud.")
        store.change_controller(conn, name, store.REMOVED)
