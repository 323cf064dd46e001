"""Policy blobs are meant for endpoints, services, or services of a region: which one is an endpoint's?"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from pileus.identity.errors import not_found
from pileus.identity.store import catalog as catalog_store
from pileus.identity.store import endpoint_policy as store
from pileus.identity.store import listing
from pileus.identity.store.endpoint_policy import Subject
from pileus.identity.store.listing import Lock, Record
from pileus.identity.store.tables import endpoints, regions, services
from pileus.kernel.errors import NotFound
from pileus.kernel.service import Service

from . import policies


def associate(service: Service, policy_id: str, subject: Subject) -> None:
    """The policy is the subject's from now on, in place of another one. Raises NotFound for what does not exist."""
    with service.db.write() as conn:
        _check(conn, policy_id, subject, "share")
        store.put(conn, subject, policy_id)


def dissociate(service: Service, policy_id: str, subject: Subject) -> None:
    """The policy is not the subject's any more, if it was. Raises NotFound for what does not exist."""
    with service.db.write() as conn:
        _check(conn, policy_id, subject)
        store.remove(conn, subject, policy_id)


def check(service: Service, policy_id: str, subject: Subject) -> None:
    """Raises NotFound unless the policy is the subject's own."""
    with service.db.read() as conn:
        _check(conn, policy_id, subject)
        if store.policies_of(conn, [subject.key]).get(subject.key) != policy_id:
            raise NotFound(f"Policy {policy_id} is not associated with {subject.key}.")


def endpoints_of(service: Service, policy_id: str) -> Sequence[Record]:
    """The endpoints that the policy was meant for, by itself or with their service. Raises NotFound."""
    with service.db.read() as conn:
        policies.required(conn, policy_id)
        return store.endpoints_of(conn, store.subjects_of(conn, policy_id))


def policy_of(service: Service, endpoint_id: str) -> Record:
    """The endpoint's own policy; otherwise its service's in its region or the next one above; otherwise its service's.

    Raises NotFound.
    """
    with service.db.read() as conn:
        endpoint = listing.by_id(conn, catalog_store.ENDPOINT_COLUMNS, endpoints, endpoint_id)
        if endpoint is None:
            raise not_found("endpoint", endpoint_id)
        above = store.lineage(endpoint.region_id, catalog_store.all_region_parents(conn))
        subjects = [
            Subject(endpoint_id=endpoint_id),
            *(Subject(service_id=endpoint.service_id, region_id=region_id) for region_id in above),
            Subject(service_id=endpoint.service_id),
        ]
        known = store.policies_of(conn, [subject.key for subject in subjects])
        for subject in subjects:
            if subject.key in known:
                return policies.required(conn, known[subject.key])
    raise NotFound(f"No policy is associated with endpoint {endpoint_id}.")


def _check(conn: sa.Connection, policy_id: str, subject: Subject, lock: Lock = None) -> None:
    policies.required(conn, policy_id, lock)
    named = (
        ("endpoint", endpoints, subject.endpoint_id),
        ("service", services, subject.service_id),
        ("region", regions, subject.region_id),
    )
    for kind, table, identifier in named:
        if identifier is not None and listing.by_id(conn, (table.c.id,), table, identifier, lock) is None:
            raise not_found(kind, identifier)
