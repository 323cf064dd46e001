"""What a token's claims are worth now: the two or three statements of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from pileus.kernel import clock

from .federation_tables import federated_memberships, federation_protocols, identity_providers
from .listing import Record
from .tables import (
    DOMAIN,
    PROJECT,
    SYSTEM,
    SYSTEM_KIND,
    application_credentials,
    assignments,
    memberships,
    projects,
    revocations,
    users,
)

_user_domain = projects.alias("user_domain")
_project = projects.alias("project")
_project_domain = projects.alias("project_domain")

# Always true. It tells SQLAlchemy, which warns of products, that this one (of one row by one row) is meant.
_any_pair = sa.or_(_project.c.id != users.c.id, _project.c.id == users.c.id)

# The project (or domain) is joined by its id alone: one statement answers all that does not depend on roles.
_STATE = (
    sa.select(
        users.c.id.label("user_id"),
        users.c.name.label("user_name"),
        users.c.enabled.label("user_enabled"),
        users.c.tokens_valid_after.label("user_valid_after"),
        users.c.password_expires_at,
        users.c.options.label("user_options"),
        users.c.last_active_at.label("user_last_active_at"),
        users.c.domain_id.label("user_domain_id"),
        _user_domain.c.name.label("user_domain_name"),
        _user_domain.c.enabled.label("user_domain_enabled"),
        _user_domain.c.tokens_valid_after.label("user_domain_valid_after"),
        _project.c.id.label("project_id"),
        _project.c.name.label("project_name"),
        _project.c.enabled.label("project_enabled"),
        _project.c.is_domain,
        _project.c.parent_id,
        _project.c.tokens_valid_after.label("project_valid_after"),
        _project.c.domain_id.label("project_domain_id"),
        _project_domain.c.name.label("project_domain_name"),
        _project_domain.c.enabled.label("project_domain_enabled"),
        _project_domain.c.tokens_valid_after.label("project_domain_valid_after"),
        sa.exists()
        .where(
            sa.or_(
                revocations.c.audit_id == sa.bindparam("audit_id"),
                sa.and_(revocations.c.audit_id == sa.bindparam("chain_id"), revocations.c.chain == sa.true()),
            )
        )
        .label("revoked"),
        sa.exists()
        .where(
            federation_protocols.c.identity_provider_id == sa.bindparam("identity_provider_id"),
            federation_protocols.c.id == sa.bindparam("protocol_id"),
            identity_providers.c.id == federation_protocols.c.identity_provider_id,
            identity_providers.c.enabled == sa.true(),
        )
        .label("federation_stands"),
        sa.select(sa.func.min(federated_memberships.c.expires_at))
        .where(
            federated_memberships.c.user_id == sa.bindparam("user_id"),
            federated_memberships.c.expires_at > sa.bindparam("now"),
        )
        .scalar_subquery()
        .label("memberships_end"),
    )
    .select_from(users)
    .join(_user_domain, _user_domain.c.id == users.c.domain_id)
    .outerjoin(_project, sa.and_(_project.c.id == sa.bindparam("target_id"), _any_pair))
    .outerjoin(_project_domain, _project_domain.c.id == _project.c.domain_id)
    .where(users.c.id == sa.bindparam("user_id"))
)


def state(
    conn: sa.Connection,
    user_id: str,
    target_id: str | None,
    audit_id: str = "",
    chain_id: str = "",
    federation: tuple[str, str] = ("", ""),
) -> Record | None:
    """The user, the project or domain, whether the token was revoked, whether its identity provider and protocol
    (`federation`) may still say who is who, and when the first of the user's memberships by federation ends.

    None without such a user.
    """
    values: dict[str, Any] = {"user_id": user_id, "target_id": target_id or ""}
    values.update(audit_id=audit_id, chain_id=chain_id, now=clock.utcnow())
    values["identity_provider_id"], values["protocol_id"] = federation
    return conn.execute(_STATE, values).first()


_ANCESTORS = (
    sa.select(projects.c.id, projects.c.parent_id, projects.c.enabled)
    .where(projects.c.id == sa.bindparam("project_id"))
    .cte("ancestors", recursive=True)
)
_parent = projects.alias("parent")
_ANCESTORS = _ANCESTORS.union_all(
    sa.select(_parent.c.id, _parent.c.parent_id, _parent.c.enabled).where(_parent.c.id == _ANCESTORS.c.parent_id)
)


def ancestors(conn: sa.Connection, project_id: str) -> list[str]:
    """The project itself, its parent, and so on up to its domain."""
    return list(conn.execute(sa.select(_ANCESTORS.c.id), {"project_id": project_id}).scalars())


def _counts(targets: Sequence[str]) -> sa.ColumnElement[bool]:
    """On the target itself what is not inherited, on what is above it what is."""
    own, above = targets[0], targets[1:]
    here = sa.and_(assignments.c.target_id == own, assignments.c.inherited == sa.false())
    if not above:
        return here
    return sa.or_(here, sa.and_(assignments.c.target_id.in_(above), assignments.c.inherited == sa.true()))


def _by_groups(columns: Sequence[sa.ColumnElement[Any]], user_id: str) -> list[sa.Select[*tuple[Any, ...]]]:
    """Columns of the assignments of the groups to which a user belongs, for good or for a while."""
    chosen = sa.select(*columns)
    for_good = chosen.join(memberships, memberships.c.group_id == assignments.c.actor_id)
    for_a_while = chosen.join(federated_memberships, federated_memberships.c.group_id == assignments.c.actor_id)
    return [
        for_good.where(memberships.c.user_id == user_id),
        for_a_while.where(
            federated_memberships.c.user_id == user_id, federated_memberships.c.expires_at > clock.utcnow()
        ),
    ]


def role_ids(conn: sa.Connection, user_id: str, targets: Sequence[str], kind: str) -> set[str]:
    """Roles that the user has on targets[0], directly or by a group, and by inheritance from the others.

    `kind` is that of targets[0].
    """
    condition = _counts(targets)
    kinds = assignments.c.target_kind.in_((PROJECT, DOMAIN) if kind == PROJECT else (kind,))
    direct = sa.select(assignments.c.role_id).where(assignments.c.actor_id == user_id, condition, kinds)
    by_groups = [query.where(condition, kinds) for query in _by_groups((assignments.c.role_id,), user_id)]
    return set(conn.execute(sa.union_all(direct, *by_groups)).scalars())


def system_role_ids(conn: sa.Connection, user_id: str) -> set[str]:
    return role_ids(conn, user_id, (SYSTEM,), SYSTEM_KIND)


def all_assignments(conn: sa.Connection, user_id: str) -> list[tuple[str, str, str, bool]]:
    """(target kind, target id, role id, inherited) of all that the user has, directly or by a group."""
    wanted = (
        assignments.c.target_kind,
        assignments.c.target_id,
        assignments.c.role_id,
        assignments.c.inherited,
    )
    direct = sa.select(*wanted).where(assignments.c.actor_id == user_id)
    found = conn.execute(sa.union_all(direct, *_by_groups(wanted, user_id)))
    return [(row[0], row[1], row[2], row[3]) for row in found]


_APPLICATION_CREDENTIAL = sa.select(application_credentials).where(
    application_credentials.c.id == sa.bindparam("credential_id")
)


def application_credential(conn: sa.Connection, credential_id: str) -> Record | None:
    return conn.execute(_APPLICATION_CREDENTIAL, {"credential_id": credential_id}).first()
