"""Security groups for clients that still manage them through compute: the network service's answers in compute's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pileus.clients.base import PeerConflict, PeerError, PeerNotFound
from pileus.compute.errors import BadRequest, TooMany
from pileus.compute.logic import networks
from pileus.kernel.context import Context
from pileus.kernel.errors import NotFound
from pileus.kernel.service import Service

Json = dict[str, Any]


@contextmanager
def _refusals() -> Iterator[None]:
    """What the network service refuses, as compute says it; that it does not answer stays as it is."""
    try:
        yield
    except PeerNotFound as error:
        raise NotFound(error.message) from error
    except PeerError as error:
        if error.status >= 500:
            raise
        if isinstance(error, PeerConflict) and "OverQuota" in str(error.body):
            raise TooMany("Quota exceeded, too many security groups.") from error
        raise BadRequest(error.message) from error


def get_group(service: Service, context: Context, group_id: str) -> Json:
    """A group that the caller sees. Raises `NotFound`."""
    found = networks.list_all(service, context, "security_groups", id=group_id)
    if not found:
        raise NotFound(f"Security group {group_id} not found.")
    return found[0]


def create_group(service: Service, context: Context, body: Json) -> Json:
    with _refusals():
        made: Json = service.clients.network(context).create_security_group(body)
    return made


def update_group(service: Service, context: Context, group_id: str, body: Json) -> Json:
    get_group(service, context, group_id)
    with _refusals():
        changed = service.clients.network(context).put(f"/v2.0/security-groups/{group_id}", {"security_group": body})
    found: Json = changed["security_group"]
    return found


def delete_group(service: Service, context: Context, group_id: str) -> None:
    get_group(service, context, group_id)
    with _refusals():
        service.clients.network(context).delete_security_group(group_id)


def create_rule(service: Service, context: Context, body: Json) -> Json:
    get_group(service, context, body["security_group_id"])
    with _refusals():
        made: Json = service.clients.network(context).create_security_group_rule(body)
    return made


def delete_rule(service: Service, context: Context, rule_id: str) -> None:
    with _refusals():
        service.clients.network(context).delete_security_group_rule(rule_id)
