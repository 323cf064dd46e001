"""What placement refuses, with the stable codes clients match on (shown from microversion 1.23)."""

from __future__ import annotations

from pileus.kernel.errors import Conflict, Invalid, NotFound

UNDEFINED = "placement.undefined_code"
CONCURRENT_UPDATE = "placement.concurrent_update"
INVENTORY_IN_USE = "placement.inventory.inuse"
DUPLICATE_NAME = "placement.duplicate_name"
PROVIDER_IN_USE = "placement.resource_provider.inuse"
CANNOT_DELETE_PARENT = "placement.resource_provider.cannot_delete_parent"
PROVIDER_NOT_FOUND = "placement.resource_provider.not_found"
DUPLICATE_KEY = "placement.query.duplicate_key"
BAD_VALUE = "placement.query.bad_value"
MISSING_VALUE = "placement.query.missing_value"


class BadRequest(Invalid):
    default_code = UNDEFINED


class BadQueryValue(Invalid):
    """A query parameter has a value that means nothing."""

    default_code = BAD_VALUE


class MissingQueryValue(Invalid):
    """The query leaves out what it needs."""

    default_code = MISSING_VALUE


class RepeatedQueryKey(Invalid):
    """A query parameter that may stand once stands more often."""

    default_code = DUPLICATE_KEY


class Missing(NotFound):
    default_code = UNDEFINED


class ProviderNotFound(NotFound):
    """No provider has the UUID."""

    default_code = UNDEFINED

    def __init__(self, uuid: str, purpose: str = "") -> None:
        super().__init__(f"No resource provider with uuid {uuid} found{' ' + purpose if purpose else ''}")


class Refused(Conflict):
    default_code = UNDEFINED


class ConcurrentUpdate(Conflict):
    """Somebody else changed it since the caller looked; read again and retry."""

    default_code = CONCURRENT_UPDATE


class InventoryInUse(Conflict):
    """Allocations hold what shall be removed."""

    default_code = INVENTORY_IN_USE


class DuplicateName(Conflict):
    default_code = DUPLICATE_NAME


class ProviderInUse(Conflict):
    default_code = PROVIDER_IN_USE


class CannotDeleteParent(Conflict):
    default_code = CANNOT_DELETE_PARENT
