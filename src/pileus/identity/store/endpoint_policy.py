"""Which policy blob is meant for which endpoints: by endpoint, by service, or by service and region."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sqlalchemy as sa

from pileus.kernel.db import insert_ignore

from . import catalog
from .listing import Record
from .tables import endpoints, policy_associations


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a policy is for: an endpoint alone, a service alone, or a service in a region and the regions below it."""

    endpoint_id: str | None = None
    service_id: str | None = None
    region_id: str | None = None

    @property
    def key(self) -> str:
        """Names it among all subjects: each has one policy at most."""
        if self.endpoint_id is not None:
            return f"endpoint/{self.endpoint_id}"
        return f"service/{self.service_id}" + (f"/{self.region_id}" if self.region_id is not None else "")


def put(conn: sa.Connection, subject: Subject, policy_id: str) -> None:
    """The policy of a subject from now on."""
    row = {"subject": subject.key, "policy_id": policy_id, **dataclasses.asdict(subject)}
    if not insert_ignore(conn, policy_associations, [row]):
        mine = policy_associations.c.subject == subject.key
        conn.execute(sa.update(policy_associations).where(mine).values(policy_id=policy_id))


def remove(conn: sa.Connection, subject: Subject, policy_id: str) -> None:
    table = policy_associations
    conn.execute(sa.delete(table).where(table.c.subject == subject.key, table.c.policy_id == policy_id))


def policies_of(conn: sa.Connection, keys: Sequence[str]) -> dict[str, str]:
    """Policy ids by the keys of those of the subjects that have one."""
    table = policy_associations
    return {row[0]: row[1] for row in conn.execute(sa.select(table.c.subject, table.c.policy_id).where(table.c.subject.in_(keys)))}


def subjects_of(conn: sa.Connection, policy_id: str) -> list[Subject]:
    table = policy_associations
    query = sa.select(table.c.endpoint_id, table.c.service_id, table.c.region_id).where(table.c.policy_id == policy_id)
    return [Subject(*row) for row in conn.execute(query)]


def endpoints_of(conn: sa.Connection, subjects: Sequence[Subject]) -> Sequence[Record]:
    """The endpoints that subjects stand for, each once."""
    parents = catalog.all_region_parents(conn) if any(subject.region_id for subject in subjects) else {}
    conditions = [_condition(subject, parents) for subject in subjects]
    query = sa.select(*catalog.ENDPOINT_COLUMNS).where(sa.or_(sa.false(), *conditions)).order_by(endpoints.c.id)
    return conn.execute(query).all()


def _condition(subject: Subject, parents: dict[str, str | None]) -> sa.ColumnElement[bool]:
    if subject.endpoint_id is not None:
        return endpoints.c.id == subject.endpoint_id
    of_service = endpoints.c.service_id == subject.service_id
    if subject.region_id is None:
        return of_service
    below = [region for region in parents if subject.region_id in lineage(region, parents)]
    return sa.and_(of_service, endpoints.c.region_id.in_(below))


def lineage(region_id: str | None, parents: dict[str, str | None]) -> list[str]:
    """A region, its parent, and so on to the top."""
    found: list[str] = []
    while region_id is not None and region_id not in found:
        found.append(region_id)
        region_id = parents.get(region_id)
    return found
