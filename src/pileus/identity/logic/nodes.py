"""Nodes: machines of the cloud that hold none of its secrets. They are invited, join, are drained and removed, and so are
controllers, which hold all of them.

A node has a user here (role `node` on project `service`, with which it fetches images and metadata) and one at the broker,
both named by its principal. The registry decides: what the broker has is made to agree, at once where it answers and by
the loop `broker_users` otherwise.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import pathlib
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, invalid, not_found
from pileus.identity.store import nodes as store
from pileus.identity.store import revision
from pileus.identity.store.listing import Record
from pileus.identity.store.tables import NO_DOMAIN, PROJECT, USER, assignments, projects, roles, users
from pileus.kernel import clock, ids
from pileus.kernel.bus.management import Management
from pileus.kernel.bus.sender import NAME, user_of_node
from pileus.kernel.certificates import Authority, Signed, fingerprint
from pileus.kernel.config import Config
from pileus.kernel.db import insert_ignore
from pileus.kernel.errors import Conflict, Unavailable
from pileus.kernel.service import Service

from . import controllers
from . import state as state_module

ROLE = "node"
ROLES = (controllers.ROLE, "compute", "network")
NAME_PATTERN = f"^{NAME}$"
_NAME = re.compile(NAME)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Invitation:
    """What a new machine has to know beforehand: where the API is, whom to trust there, and the one-time secret."""

    url: str
    fingerprint: str
    secret: str
    expires_at: str


@dataclasses.dataclass(frozen=True)
class Joined:
    """What a machine gets when it joins. A node's `password` is said once and kept nowhere."""

    node: Record
    given: Mapping[str, Any]


# Is this cloud ready for nodes? -------------------------------------------------------------------------------------


def authority_of(service: Service) -> Authority:
    """The installation's own. Raises Conflict with what to do where no machine could reach this cloud and trust it."""
    config = service.config
    if not config.base_url.startswith("https://"):
        raise Conflict("The API has no TLS, and nodes reach it from other machines: `pileus tls` makes a certificate.")
    if config.api.host in {"0.0.0.0", "::"} and not config.api.public_url:
        raise Conflict("The API listens on all addresses: set api.public_url to the one under which nodes reach it.")
    try:
        authority = Authority.load(config.home / "tls")
    except FileNotFoundError:
        raise Conflict(f"This controller has no authority in {config.home}/tls: `pileus tls` makes one.") from None
    own = config.api.certificate  # where there is none a load balancer has it, and who joins looks at that
    if own and not authority.signed(pathlib.Path(own).read_bytes()):
        raise Conflict("The API's certificate is not of this installation's authority: `pileus tls --renew` makes one.")
    return authority


def _missing(config: Config, wanted: Sequence[str]) -> str:
    """What has to be configured before a machine with these roles can join; "" when nothing has."""
    if controllers.ROLE in wanted:
        return controllers.missing(config)
    if not config.bus.url.startswith("amqps://"):
        return "Nodes need RabbitMQ with TLS between machines: set bus.url to amqps://... (see docs/operate/nodes.md)."
    if not config.bus.management:
        return "Nodes are users of the broker: set bus.management to RabbitMQ's management API with an administrator."
    return ""


# Inviting and joining -----------------------------------------------------------------------------------------------


def invite(service: Service, wanted: Sequence[str], minutes: int, name: str | None) -> Invitation:
    """An invitation for one machine, of this name if there is one. Raises Conflict where this cloud cannot let it in."""
    authority = authority_of(service)
    missing = _missing(service.config, wanted)
    if missing:
        raise Conflict(missing)
    secret = ids.token_bytes(32).hex()
    now = clock.utcnow()
    expires = now + timedelta(minutes=minutes)
    with service.db.write() as conn:
        row = {"secret_hash": _hash(secret), "name": name, "roles": sorted(set(wanted)), "expires_at": expires}
        store.add_token(conn, row, now)
    return Invitation(service.config.base_url, fingerprint(authority.pem), secret, clock.iso_micro(expires) or "")


def join(service: Service, secret: str, name: str, request: str) -> Joined:
    """Let a machine in by its invitation, which is used up.

    Raises AuthenticationFailed for an invitation that is not good, Conflict for a name that is taken, Invalid.
    """
    authority = authority_of(service)
    secret_hash = _hash(secret)
    with service.db.read() as conn:
        invitation = store.token(conn, secret_hash, clock.utcnow())
    if invitation is None:
        raise AuthenticationFailed("an invitation of a node that was used, has ended or never was")
    wanted = list(invitation.roles)
    if invitation.name not in {None, name}:
        raise Conflict(f"This token is for a machine with the name {invitation.name}.")
    if not _NAME.fullmatch(name):
        raise invalid(f"{name!r} cannot be the name of a node: letters, digits, '.', '_' and '-', 50 at most.")
    if controllers.ROLE in wanted:
        return _join_controller(service, authority, secret_hash, name, wanted)
    known = find(service, name)
    is_taken = known is not None and controllers.is_controller(known) and known.state != store.REMOVED
    if is_taken or name == service.config.host:
        raise Conflict(f"{name} is the name of a controller: choose another one with --name.")
    principal = user_of_node(ids.token_bytes(4).hex(), name)
    signed = authority.client(principal, request.encode(), service.options.node_certificate_days)
    password = ids.password(48)
    password_hash = state_module.of(service).hasher.hash(password)
    node = _admit(service, secret_hash, name, principal, wanted, signed, password_hash)
    _agree_on(service, node)
    _log.info("node %s has joined as %s with %s", name, principal, ", ".join(wanted))
    given = {"certificate": signed.pem.decode(), "authority": authority.pem.decode(), "password": password}
    return Joined(node, {**given, "settings": _settings(service.config, name, wanted)})


def _join_controller(service: Service, authority: Authority, secret_hash: str, name: str, wanted: list[str]) -> Joined:
    with service.db.write() as conn:
        _use(conn, secret_hash)
        node = controllers.admit(service, conn, name, wanted)
    _log.warning("controller %s has joined, and been given the secrets of the installation", name)
    return Joined(node, {"authority": authority.pem.decode(), **controllers.given(service.config, name, wanted)})


def _use(conn: sa.Connection, secret_hash: str) -> None:
    if not store.take_token(conn, secret_hash, clock.utcnow()):
        raise AuthenticationFailed("an invitation that was used meanwhile")


def _admit(
    service: Service, secret_hash: str, name: str, principal: str, wanted: list[str], signed: Signed, password_hash: str
) -> Record:
    """Invitation, user and node change together."""
    now = clock.utcnow()
    with service.db.write() as conn:
        _use(conn, secret_hash)
        user_id = _make_user(service, conn, principal, password_hash)
        row = {
            "name": name,
            "principal": principal,
            "state": store.ACTIVE,
            "roles": wanted,
            "user_id": user_id,
            "serial": signed.serial,
            "certificate_ends_at": signed.expires_at,
            "joined_at": now,
        }
        if not store.put(conn, row):
            raise Conflict(f"There is a node {name} already; `pileus node remove {name}` makes its name free.")
        node = store.named(conn, name)
        revision.advance(conn, roles=True)
    assert node is not None
    return node


def _make_user(service: Service, conn: sa.Connection, name: str, password_hash: str) -> str:
    """A user that may do what nodes may; the role is made with the first one."""
    domain_id, user_id, now = service.options.default_domain_id, ids.new_id(), clock.utcnow()
    options = {"immutable": True} if service.options.immutable_default_roles else {}
    role = {"id": ids.new_id(), "name": ROLE, "domain_id": NO_DOMAIN, "options": options, "extra": {}}
    insert_ignore(conn, roles, [role])
    role_id = conn.execute(
        sa.select(roles.c.id).where(roles.c.name == ROLE, roles.c.domain_id == NO_DOMAIN)
    ).scalar_one()
    of_services = sa.select(projects.c.id).where(projects.c.name == "service", projects.c.domain_id == domain_id)
    project_id = conn.execute(of_services).scalar_one()
    user: dict[str, Any] = {
        "id": user_id,
        "domain_id": domain_id,
        "name": name,
        "enabled": True,
        "options": {"lock_password": True, "ignore_lockout_failure_attempts": True},
        "extra": {},
        "password_hash": password_hash,
        "password_changed_at": now,
        "created_at": now,
    }
    conn.execute(sa.insert(users).values(**user))
    grant = {"actor_id": user_id, "actor_kind": USER, "target_id": project_id, "target_kind": PROJECT}
    conn.execute(sa.insert(assignments).values(**grant, role_id=role_id, inherited=False))
    return user_id


def _settings(config: Config, name: str, wanted: list[str]) -> dict[str, dict[str, Any]]:
    """The configuration of a node, but for the paths of its own files."""
    brokers = [urllib.parse.urlsplit(url) for url in config.bus.url.split(";")]
    urls = [broker._replace(netloc=broker.netloc.rpartition("@")[2]).geturl() for broker in brokers]
    return {
        "pileus": {"host": name, "region": config.pileus.region, "services": config.pileus.services, "roles": wanted},
        "api": {"controller_url": config.base_url},
        "bus": {"url": ";".join(urls), "quorum": config.bus.quorum},
    }


def renew(service: Service, name: str, request: str) -> bytes:
    """A new certificate for a node that belongs to the cloud. Raises NotFound, Conflict, Invalid."""
    authority = authority_of(service)
    node = require(service, name)
    if controllers.is_controller(node):
        raise Conflict(f"{name} is a controller: `pileus tls --renew` there makes its certificate.")
    signed = authority.client(node.principal, request.encode(), service.options.node_certificate_days)
    with service.db.write() as conn:
        values = {"serial": signed.serial, "certificate_ends_at": signed.expires_at}
        if not store.change(conn, name, store.MEMBERS, **values):
            raise Conflict(f"The node {name} was removed.")
    return signed.pem


# Looking, draining, removing ----------------------------------------------------------------------------------------


def everyone(service: Service) -> Sequence[Record]:
    with service.db.read() as conn:
        return store.everyone(conn)


def find(service: Service, name: str) -> Record | None:
    with service.db.read() as conn:
        return store.named(conn, name)


def require(service: Service, name: str) -> Record:
    """The node. Raises NotFound."""
    found = find(service, name)
    if found is None:
        raise not_found("node", name)
    return found


def set_state(service: Service, name: str, state: str) -> Record:
    """Mark a machine of the cloud as active or draining. Raises NotFound, Conflict for one that was removed."""
    with service.db.write() as conn:
        changed = store.change(conn, name, store.MEMBERS, state=state) or store.change_controller(conn, name, state)
    node = require(service, name)
    if not changed:
        raise Conflict(f"The node {name} was removed.")
    return node


def remove(service: Service, name: str) -> None:
    """A node is out: its user goes now, its user at the broker now or when the broker answers. Safe to repeat.

    Raises NotFound, Conflict for the only controller, Unavailable when the broker still has to be told.
    """
    if controllers.is_controller(require(service, name)):
        controllers.remove(service, name)
        return
    with service.db.write() as conn:
        if store.change(conn, name, store.MEMBERS, state=store.REMOVING):
            store.forget_user(conn, name)
            revision.advance(conn)
    node = require(service, name)
    if node.state == store.REMOVING and not _agree_on(service, node):
        raise Unavailable(
            f"{name} is out of the cloud, and no controller listens to it. The broker cannot be told now; it will be."
        )


def seen(service: Service, name: str) -> dict[str, Any]:
    """A node says that it is there; what it is to us."""
    with service.db.write(durable=False) as conn:
        store.change(conn, name, store.MEMBERS, seen_at=clock.utcnow())
        node = store.named(conn, name)
    return {"state": node.state if node is not None else store.REMOVED}


# The broker ---------------------------------------------------------------------------------------------------------


def agree(service: Service) -> None:
    """Every node that belongs to the cloud is a user of the broker, and no other is. Raises Unavailable."""
    if not service.config.bus.management:
        return
    management = Management(service.config.bus)
    present = management.nodes()
    found = everyone(service)
    wanted = {node.principal for node in found if node.principal and node.state in store.MEMBERS}
    for principal in sorted(present - wanted):
        management.remove(principal)
    for principal in sorted(wanted - present):
        management.make(principal)
    for node in found:
        if node.state == store.REMOVING:
            _settle(service, node)


def _agree_on(service: Service, node: Record) -> bool:
    """The same for one node, now; False when the broker does not answer, and the loop will see to it."""
    management = Management(service.config.bus)
    try:
        if node.state in store.MEMBERS:
            management.make(node.principal)
        else:
            management.remove(node.principal)
            _settle(service, node)
    except Unavailable as failure:
        _log.warning("the broker's users do not agree with the nodes yet: %s", failure.inside)
        service.loops.nudge("broker_users")
        return False
    return True


def _settle(service: Service, node: Record) -> None:
    """The broker knows that the node is out."""
    with service.db.write() as conn:
        store.change(conn, node.name, [store.REMOVING], state=store.REMOVED)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
