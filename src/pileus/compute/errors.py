"""What can go wrong in compute, in upstream's sentences. HTTP codes come from the kernel's kinds."""

from __future__ import annotations

from pileus.kernel.errors import Conflict, Forbidden, Invalid, NotFound, NotImplementedHere, OverQuota


class ServerNotFound(NotFound):
    def __init__(self, server_id: str) -> None:
        super().__init__(f"Instance {server_id} could not be found.")


class FlavorNotFound(NotFound):
    def __init__(self, flavor_id: str) -> None:
        super().__init__(f"Flavor {flavor_id} could not be found.")


class KeypairNotFound(NotFound):
    def __init__(self, name: str, user_id: str) -> None:
        super().__init__(f"Keypair {name} not found for user {user_id}")


class AggregateNotFound(NotFound):
    def __init__(self, aggregate_id: object) -> None:
        super().__init__(f"Aggregate {aggregate_id} could not be found.")


class ServerGroupNotFound(NotFound):
    def __init__(self, group_id: str) -> None:
        super().__init__(f"Instance group {group_id} could not be found.")


class ServiceNotFound(NotFound):
    def __init__(self, service_id: object) -> None:
        super().__init__(f"Service {service_id} could not be found.")


class HostNotFound(NotFound):
    def __init__(self, host: str) -> None:
        super().__init__(f"Compute host {host} could not be found.")


class HostBinaryNotFound(NotFound):
    def __init__(self, host: str, binary: str) -> None:
        super().__init__(f"Could not find binary {binary} on host {host}.")


class WrongState(Conflict):
    """An action that the server's state does not allow. `attribute` is vm_state, task_state or power_state."""

    def __init__(self, action: str, server_id: str, attribute: str, state: object) -> None:
        super().__init__(f"Cannot '{action}' instance {server_id} while it is in {attribute} {state}")


class NotReady(Conflict):
    """An action on a server that has no host yet."""

    def __init__(self, server_id: str) -> None:
        super().__init__(f"Instance {server_id} is not ready")


class ServerLocked(Conflict):
    def __init__(self, server_id: str) -> None:
        super().__init__(f"Instance {server_id} is locked")


class TooMany(OverQuota):
    """A project is over its quota. The sentence names what was asked, what is used and the limit."""


class BadRequest(Invalid):
    """What the schema cannot see is wrong with a request."""


class Refused(Forbidden):
    """Not allowed, whatever the rights of the caller are."""


class NotBuilt(NotImplementedHere):
    """A part of the API that this release does not have; upstream answers so for drivers that cannot do it."""


class ServiceDown(Conflict):
    """The host that has the server does not answer, so the server cannot leave it in an orderly way."""

    def __init__(self) -> None:
        super().__init__("Service is unavailable at this time.")
