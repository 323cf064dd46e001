"""Logging in by an identity provider: the mapping says who it is, the first login makes the user, each one renews the groups."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import logging
from collections.abc import Sequence
from urllib.parse import quote

import sqlalchemy as sa

from pileus.identity.errors import AuthenticationFailed, invalid, not_found
from pileus.identity.store import federated_users as store
from pileus.identity.store import federation as federation_store
from pileus.identity.store import listing, people, projects, revision
from pileus.identity.store import roles as role_store
from pileus.identity.store.listing import Lock, Record
from pileus.identity.store.tables import PROJECT, USER, users
from pileus.kernel import clock, ids
from pileus.kernel.db import is_deadlock, is_unique_violation
from pileus.kernel.errors import Forbidden, Unavailable
from pileus.kernel.service import Service

from . import compliance, mapping_rules, mappings
from . import state as state_module
from .federation import required_protocol, required_provider
from .mapping_rules import Assertion, Domain, Mapped, Project, canonical

_log = logging.getLogger(__name__)

_REMOTE_USER = canonical("REMOTE_USER")
_ATTEMPTS = 5
"""How often a login looks again when another one made the same user or project meanwhile, or the mapping was changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Who speaks, and the rules for what is said."""

    provider: Record
    remote_ids: Sequence[str]
    protocol: Record
    mapping: Record


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    """The user of a login. `local` is one that did not come from the identity provider."""

    user_id: str
    local: bool
    default_project_id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Person:
    """A user as the identity provider knows them: `unique_id` never changes, `name` is for people."""

    unique_id: str
    name: str
    email: str | None


class _Changed(Exception):
    """What the login was worked out from is not so any more."""


def log_in(service: Service, provider_id: str, protocol_id: str, assertion: Assertion, now: dt.datetime) -> Login:
    """The user whom an assertion is about, made or brought up to date.

    Raises NotFound for an unknown identity provider or protocol, Forbidden for a disabled one or when the assertion comes
    from another one, Invalid where no rule fits, AuthenticationFailed.
    """
    for _ in range(_ATTEMPTS):
        with service.db.read() as conn:
            source = _source(conn, provider_id, protocol_id)
        _check_remote_id(service, source, assertion)
        mapped = _mapped(source, assertion)
        if mapped.user.local:
            return _local(service, source, mapped)
        person = _person(mapped, assertion)
        try:
            with service.db.write() as conn:
                return Login(_settle(service, conn, source, mapped, person, now), local=False)
        except _Changed:
            continue
        except sa.exc.IntegrityError as error:
            if not is_unique_violation(error):
                raise
        except sa.exc.OperationalError as error:
            if not is_deadlock(error):
                raise
    raise Unavailable("Too many others are logging in or changing the mapping. Try again later.")


def _source(conn: sa.Connection, provider_id: str, protocol_id: str, lock: Lock = None) -> Source:
    provider = required_provider(conn, provider_id, lock)
    if not provider.enabled:
        raise Forbidden(f"Identity Provider {provider_id} is disabled")
    protocol = required_protocol(conn, provider_id, protocol_id, lock)
    mapping = mappings.required(conn, protocol.mapping_id, lock)
    return Source(provider, federation_store.remote_ids_of(conn, [provider_id]).get(provider_id, ()), protocol, mapping)


def remote_id_attribute(service: Service, protocol_id: str, own: str | None) -> str | None:
    """The attribute of an assertion that names the identity provider: the protocol's own, or by configuration."""
    configured: dict[str, str] = service.options.remote_id_attributes
    return own or configured.get(protocol_id) or configured.get("*")


def told(assertion: Assertion, name: str) -> str | None:
    """The whole text of one attribute."""
    wanted = canonical(name)
    values = (value for key, value in assertion.items() if canonical(key) == wanted and isinstance(value, str))
    return next(values, None)


def provider_behind(service: Service, protocol_id: str, assertion: Assertion) -> str:
    """The identity provider that an assertion itself names. Raises AuthenticationFailed, NotFound."""
    if not assertion:
        raise AuthenticationFailed("no trusted proxy says anything of who is asking")
    with service.db.read() as conn:
        attributes = federation_store.remote_id_attributes(conn, protocol_id)
        for own in attributes:
            attribute = remote_id_attribute(service, protocol_id, own)
            name = told(assertion, attribute) if attribute is not None else None
            if name is not None:
                provider_id = federation_store.provider_of_remote_id(conn, name)
                if provider_id is None:
                    raise not_found("Identity Provider", name)
                return provider_id
    raise AuthenticationFailed(f"the assertion names no identity provider of protocol {protocol_id}")


def _check_remote_id(service: Service, source: Source, assertion: Assertion) -> None:
    """The assertion must come from this identity provider, where it says what it calls itself."""
    if not source.remote_ids:
        return
    attribute = remote_id_attribute(service, source.protocol.id, source.protocol.remote_id_attribute)
    if attribute is None:
        raise AuthenticationFailed(
            f"identity provider {source.provider.id} has remote ids, and nothing says which attribute holds one:"
            f" set remote_id_attribute of protocol {source.protocol.id}"
        )
    name = told(assertion, attribute)
    if name is None:
        raise invalid("The assertion does not say which identity provider it comes from.")
    if name not in source.remote_ids:
        raise Forbidden("The assertion comes from another identity provider than this one.")


def _mapped(source: Source, assertion: Assertion) -> Mapped:
    try:
        return mapping_rules.evaluate(source.mapping.rules, source.mapping.schema_version, assertion)
    except mapping_rules.Unmapped as reason:
        _log.warning("mapping %s: %s", source.mapping.id, reason)
        raise invalid("What the identity provider says of the user fits no rule of the mapping.") from None


def _local(service: Service, source: Source, mapped: Mapped) -> Login:
    """A user who is here already, whose own rights count."""
    wanted, domain = mapped.user, mapped.user.domain
    if domain is None and source.mapping.schema_version != "1.0":
        domain = Domain(source.provider.domain_id)
    if wanted.id is None and (wanted.name is None or domain is None):
        raise AuthenticationFailed(f"mapping {source.mapping.id} gives a local user neither an id nor name and domain")
    with service.db.read() as conn:
        row = people.for_password(
            conn,
            user_id=wanted.id,
            name=wanted.name,
            domain_id=domain.id if domain is not None else None,
            domain_name=domain.name if domain is not None else None,
        )
    if row is None or not (row.enabled and row.domain_enabled):
        raise AuthenticationFailed("there is no such local user, or it is disabled")
    return Login(row.id, local=True, default_project_id=row.default_project_id)


def _person(mapped: Mapped, assertion: Assertion) -> _Person:
    """Raises AuthenticationFailed when nothing names the user."""
    named = mapped.user.name or told(assertion, _REMOTE_USER)
    unique_id, name = mapped.user.id or named, named or mapped.user.id
    if not unique_id or not name:
        raise AuthenticationFailed("the mapping gives the user neither an id nor a name")
    unique_id = quote(unique_id)
    if len(unique_id) > 255 or len(name) > 255:
        raise AuthenticationFailed("the id or the name of the user is longer than 255 characters")
    return _Person(unique_id, name.strip() or unique_id, mapped.user.email)


def _settle(
    service: Service, conn: sa.Connection, source: Source, mapped: Mapped, person: _Person, now: dt.datetime
) -> str:
    """Write down what the login comes to; the id of the user. Raises _Changed."""
    if _source(conn, source.provider.id, source.protocol.id, "share") != source:
        raise _Changed
    domain_id = source.provider.domain_id
    if source.mapping.schema_version != "1.0" and mapped.user.domain is not None:
        domain_id = _domain_id(conn, mapped.user.domain)
    user_id, renamed = _user(service, conn, source, person, domain_id, now)
    wanted = _group_ids(conn, source, mapped)
    before = store.memberships(conn, user_id, source.provider.id)
    store.replace_memberships(conn, user_id, source.provider.id, wanted, now + _lifetime(service, source))
    lost = any(ends > now and group_id not in wanted for group_id, ends in before.items())
    granted = _provision(service, conn, source, mapped.projects, user_id)
    if lost or renamed or granted:
        revision.advance(conn)
    return user_id


def _lifetime(service: Service, source: Source) -> dt.timedelta:
    """How long memberships count after a login: as long as its token at least."""
    minutes = source.provider.authorization_ttl
    if minutes is None:
        minutes = service.options.default_authorization_ttl
    return max(dt.timedelta(seconds=service.options.token_expiration), dt.timedelta(minutes=minutes))


def _domain_id(conn: sa.Connection, wanted: Domain) -> str:
    """Raises AuthenticationFailed where there is no such domain."""
    row = projects.domain(conn, wanted.id, "share") if wanted.id else projects.domain_by_name(conn, wanted.name or "")
    if row is None:
        raise AuthenticationFailed(f"domain {wanted.id or wanted.name} of the mapping does not exist")
    return str(row.id)


def forget_ended(service: Service) -> None:
    """Drop memberships of users who have not come back; they have not counted since they ended."""
    with service.db.write() as conn:
        store.forget_ended(conn, clock.utcnow())


# The user --------------------------------------------------------------------------------------------------------------


def derived_id(domain_id: str, provider_id: str, unique_id: str) -> str:
    """The id of a user whom an identity provider knows: always the same, and never that of another provider's user."""
    return hashlib.sha256(f"{domain_id}\0{provider_id}\0{unique_id}".encode()).hexdigest()


def _user(
    service: Service, conn: sa.Connection, source: Source, person: _Person, domain_id: str, now: dt.datetime
) -> tuple[str, bool]:
    """(id, whether the name has changed) of the user, who is made at the first login."""
    provider_id, protocol_id = source.provider.id, source.protocol.id
    own_id = derived_id(domain_id, provider_id, person.unique_id)
    known = store.owner(conn, provider_id, protocol_id, person.unique_id)
    if known is not None:
        owner = people.user(conn, known.user_id, "update")  # logins of one user come one after another
        _check_owner(source, person, owner, domain_id)
        if known.display_name == person.name:
            return known.user_id, False
        store.rename(conn, provider_id, protocol_id, person.unique_id, person.name)
        if known.user_id == own_id:  # the name of a user whom an administrator made is the administrator's choice
            name = _free_name(conn, domain_id, person.name, provider_id, own_id)
            listing.change(conn, users, own_id, {"name": name})
        return known.user_id, True
    if people.user(conn, own_id, "update") is None:
        projects.domain(conn, domain_id, "share")
        conn.execute(
            sa.insert(users).values(
                id=own_id,
                domain_id=domain_id,
                name=_free_name(conn, domain_id, person.name, provider_id, own_id),
                enabled=True,
                options={},
                extra={"email": person.email} if person.email else {},
                created_at=now,
                **compliance.of_new_user(service, None, {}, now),
            )
        )
    store.add(conn, own_id, provider_id, protocol_id, person.unique_id, person.name)
    return own_id, False


def _check_owner(source: Source, person: _Person, owner: Record | None, domain_id: str) -> None:
    """Whoever manages the provider's domain may give identities of it to users there, but not those whom the mapping puts elsewhere.

    Raises AuthenticationFailed.
    """
    own = source.provider.domain_id
    if owner is None or owner.domain_id != own or domain_id == own:
        return
    if owner.id != derived_id(own, source.provider.id, person.unique_id):
        raise AuthenticationFailed(f"the mapping puts the user into domain {domain_id}, and user {owner.id} is in {own}")


def _free_name(conn: sa.Connection, domain_id: str, name: str, provider_id: str, user_id: str) -> str:
    """Names are unique in a domain: where somebody else has this one, the provider's is added to it."""
    for candidate in (name, f"{name}@{provider_id}"):
        if len(candidate) <= 255 and store.name_is_free(conn, domain_id, candidate, user_id):
            return candidate
    return user_id


# Groups and projects ---------------------------------------------------------------------------------------------------


def _group_ids(conn: sa.Connection, source: Source, mapped: Mapped) -> set[str]:
    """The groups of the user. Those by name that do not exist give nothing, as upstream has it.

    Raises AuthenticationFailed for an id that is no group's.
    """
    wanted = set(mapped.group_ids)
    if missing := wanted - (store.existing_groups(conn, wanted) if wanted else set()):
        raise AuthenticationFailed(f"group {min(missing)} of mapping {source.mapping.id} does not exist")
    by_domain: dict[Domain, list[str]] = {}
    for group in mapped.groups:
        by_domain.setdefault(group.domain, []).append(group.name)
    named: set[str] = set()
    for domain, names in by_domain.items():
        found = store.groups_by_name(conn, _domain_id(conn, domain), names)
        if absent := sorted(set(names) - found.keys()):
            _log.info("mapping %s: there are no groups %s", source.mapping.id, ", ".join(absent))
        named.update(found.values())
    return wanted | (store.existing_groups(conn, named) if named else set())


def _provision(service: Service, conn: sa.Connection, source: Source, wanted: Sequence[Project], user_id: str) -> bool:
    """Make the projects that are not there, and give the user the roles on them; whether anything was given."""
    if not wanted:
        return False
    role_map = state_module.role_map(service, conn, revision.read(conn))
    granted = False
    for project in wanted:
        domain_id = source.provider.domain_id if project.domain is None else _domain_id(conn, project.domain)
        project_id = _project(conn, project.name.strip(), domain_id)
        for name in project.roles:
            role_id = _role_id(role_map, name, domain_id)
            if role_id is None or role_store.role(conn, role_id, "share") is None:
                raise AuthenticationFailed(f"role {name} of mapping {source.mapping.id} does not exist")
            granted |= role_store.add_grant(conn, role_store.Grant(user_id, USER, project_id, PROJECT, role_id))
    return granted


def _role_id(role_map: state_module.RoleMap, name: str, domain_id: str) -> str | None:
    """A role of all domains, or else one of the domain of the project."""
    found = {role_map.domains[role_id]: role_id for role_id, known in role_map.names.items() if known == name}
    return found.get("") or found.get(domain_id)


def _project(conn: sa.Connection, name: str, domain_id: str) -> str:
    row = projects.project_by_name(conn, name, domain_id, None)
    if row is not None:
        return str(row.id)
    if not 1 <= len(name) <= 64:
        raise AuthenticationFailed(f"{name!r} cannot be the name of a project")
    projects.domain(conn, domain_id, "share")
    project_id = ids.new_id()
    projects.add(conn, project_id, name, domain_id=domain_id, parent_id=domain_id)
    return project_id
