"""What one process keeps for one identity service: keys, the maps of roles and services, validated tokens.

Everything but the keys is only true for a revision of the database and is thrown away with it.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from pileus.identity.store import catalog as catalog_store
from pileus.identity.store import endpoint_filter as filter_store
from pileus.identity.store import revision as revision_store
from pileus.identity.store import roles as role_store
from pileus.identity.store import service_providers as provider_store
from pileus.identity.store.revision import Revision
from pileus.kernel.db import Database
from pileus.kernel.installation import Vault
from pileus.kernel.jws import P256
from pileus.kernel.service import Service
from pileus.kernel.shared_keys import SharedKeys
from pileus.kernel.slots import Slots, login_threads
from pileus.kernel.throttle import Throttle
from pileus.kernel.tokens import KeyRepository
from pileus.kernel.xml_signatures import Signer

from .passwords import Hasher

_PATIENCE = 1.0
"""Seconds after which a question to a directory is a slow one."""


@dataclasses.dataclass(frozen=True, slots=True)
class RoleMap:
    """All roles: name and domain ("" for global ones) by id, and all that each implies, itself included."""

    names: Mapping[str, str]
    domains: Mapping[str, str]
    implied: Mapping[str, frozenset[str]]

    def with_implied(self, role_ids: Iterable[str]) -> set[str]:
        """These and all that they imply."""
        found: set[str] = set()
        for role_id in role_ids:
            found |= self.implied.get(role_id, frozenset())
        return found

    def shown(self, role_ids: Iterable[str]) -> list[dict[str, str]]:
        """What a token shows for these: with everything implied, without domain-specific roles."""
        names = self.names
        return [
            {"id": role_id, "name": names[role_id]}
            for role_id in sorted(self.with_implied(role_ids), key=lambda one: (names[one], one))
            if not self.domains[role_id]
        ]


@dataclasses.dataclass(slots=True)
class State:
    keys: KeyRepository
    credential_keys: KeyRepository
    shared: SharedKeys | None  # token keys, where machines share the database: then `keys` are not used
    shared_credentials: SharedKeys | None
    receipt_keys: KeyRepository
    shared_receipts: SharedKeys | None
    signing: KeyRepository  # of signed tokens, as `keys` and `shared` are of Fernet tokens
    shared_signing: SharedKeys | None
    hasher: Hasher
    failures: Throttle  # failed logins by address and user
    directory_logins: Slots  # questions to all directories together: at most half of the threads wait for answers
    directory_requests: Slots
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    roles: tuple[int, RoleMap] | None = None
    catalog: tuple[int, list[dict[str, Any]], dict[str, frozenset[str]]] | None = None
    service_providers: tuple[int, list[dict[str, str]]] | None = None
    signer: Signer | None = None  # of SAML assertions
    validated_revision: int = -1
    validated: dict[tuple[str, bool], Any] = dataclasses.field(default_factory=dict)
    directories: dict[str, Any] = dataclasses.field(default_factory=dict)  # open ones by domain id
    compared: dict[str, tuple[Any, float]] = dataclasses.field(default_factory=dict)  # their last comparison


_states: weakref.WeakKeyDictionary[Database, State] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def of(service: Service) -> State:
    """The state that this process keeps for the service."""
    state = _states.get(service.db)
    if state is None:
        with _lock:
            state = _states.get(service.db)
            if state is None:
                options = service.options
                vault = None if service.db.is_sqlite else Vault(service.home)
                state = State(
                    keys=KeyRepository(service.home / "keys" / "fernet"),
                    credential_keys=KeyRepository(service.home / "keys" / "credentials"),
                    shared=SharedKeys(vault, "token-keys") if vault else None,
                    shared_credentials=SharedKeys(vault, "credential-keys") if vault else None,
                    receipt_keys=KeyRepository(service.home / "keys" / "receipts"),
                    shared_receipts=SharedKeys(vault, "receipt-keys") if vault else None,
                    signing=KeyRepository(service.home / "keys" / "jws", P256),
                    shared_signing=SharedKeys(vault, "token-signing-keys", P256) if vault else None,
                    hasher=Hasher(options.password_hash_time, options.password_hash_memory, options.concurrent_hashes),
                    failures=Throttle(options.failed_logins, options.failed_logins_window),
                    directory_logins=Slots(login_threads() // 2, _PATIENCE),
                    directory_requests=Slots(max(1, service.config.api.threads // 2), _PATIENCE),
                )
                _states[service.db] = state
    return state


def role_map(service: Service, conn: sa.Connection, revision: Revision) -> RoleMap:
    """The roles as of this revision, which must have been read on the same connection before."""
    state = of(service)
    known = state.roles
    if known is not None and known[0] == revision[1]:
        return known[1]
    rows = role_store.everything(conn)
    direct: dict[str, list[str]] = {}
    for prior, implied in role_store.implications(conn):
        direct.setdefault(prior, []).append(implied)
    fresh = RoleMap(
        names={row[0]: row[1] for row in rows},
        domains={row[0]: row[2] for row in rows},
        implied={row[0]: closure(row[0], direct) for row in rows},
    )
    state.roles = (revision[1], fresh)
    return fresh


def closure(start: str, direct: Mapping[str, list[str]]) -> frozenset[str]:
    """`start` and all that can be reached from it."""
    found = {start}
    waiting = [start]
    while waiting:
        for following in direct.get(waiting.pop(), ()):
            if following not in found:
                found.add(following)
                waiting.append(following)
    return frozenset(found)


def catalog_templates(
    service: Service, conn: sa.Connection, revision: Revision, project_id: str | None
) -> list[dict[str, Any]]:
    """The catalog with its URLs not filled in, as of this revision: of what the project is given, if it is given any."""
    state = of(service)
    known = state.catalog
    if known is None or known[0] != revision[2]:
        known = state.catalog = (revision[2], _whole_catalog(conn), filter_store.everything(conn))
    _revision, everything, given = known
    shown = given.get(project_id) if project_id is not None else None
    if shown is None:
        return everything if service.options.return_all_endpoints_if_no_filter else []
    filtered = [
        {**entry, "endpoints": [endpoint for endpoint in entry["endpoints"] if endpoint["id"] in shown]}
        for entry in everything
    ]
    return [entry for entry in filtered if entry["endpoints"]]


def _whole_catalog(conn: sa.Connection) -> list[dict[str, Any]]:
    services, endpoints = catalog_store.enabled(conn)
    by_service: dict[str, list[dict[str, Any]]] = {}
    for endpoint_id, service_id, interface, region_id, url in endpoints:
        by_service.setdefault(service_id, []).append(
            {"id": endpoint_id, "interface": interface, "region_id": region_id, "region": region_id, "url": url}
        )
    return [
        {"id": service_id, "type": kind, "name": name or "", "endpoints": by_service.get(service_id, [])}
        for service_id, kind, name in services
    ]


def service_providers(service: Service, conn: sa.Connection, revision: Revision) -> list[dict[str, str]]:
    """The enabled ones as tokens show them, as of this revision."""
    state = of(service)
    known = state.service_providers
    if known is None or known[0] != revision[2]:
        rows = provider_store.enabled(conn)
        known = (revision[2], [{"id": row[0], "auth_url": row[1], "sp_url": row[2]} for row in rows])
        state.service_providers = known
    return known[1]


def revision_of(service: Service) -> int:
    """The present revision, for caches of validated tokens in this process; every request to every service asks for it."""
    return int(service.db.peek(revision_store.PEEK) or 0)
