"""Errors of the network service. The class name is the `type` that clients read in the fault body."""

from __future__ import annotations

from typing import Any

from pileus.kernel import errors


class _Typed:
    """Gives each error its own class name as stable code."""

    default_code = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.default_code = cls.__name__


class BadRequest(_Typed, errors.Invalid):
    """A body or query that cannot be used."""


class HTTPBadRequest(BadRequest):
    """An attribute that cannot be used; the type that clients see for every wrong attribute."""


class InvalidInput(BadRequest):
    """A request that contradicts itself or the resource it is about."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid input for operation: {reason}.")


class InUse(_Typed, errors.Conflict):
    """Something still depends on the resource."""


class Missing(_Typed, errors.NotFound):
    """A resource that is not there, or not for this caller."""

    what = "Resource"

    def __init__(self, id: str) -> None:
        super().__init__(f"{self.what} {id} could not be found.")


class NetworkNotFound(Missing):
    what = "Network"


class SubnetNotFound(Missing):
    what = "Subnet"


class SubnetPoolNotFound(Missing):
    what = "Subnet pool"


class PortNotFound(Missing):
    what = "Port"


class RouterNotFound(Missing):
    what = "Router"


class FloatingIPNotFound(Missing):
    what = "Floating IP"


class SecurityGroupNotFound(Missing):
    what = "Security group"


class SecurityGroupRuleNotFound(Missing):
    what = "Security group rule"


class AgentNotFound(Missing):
    what = "Agent"


class RbacPolicyNotFound(Missing):
    what = "RBAC policy"


class ExtensionNotFound(Missing):
    what = "Extension"


class TagNotFound(Missing):
    what = "Tag"


class ExternalGatewayForFloatingIPNotFound(_Typed, errors.NotFound):
    """No router joins the external network and the subnet of the address."""


class RouterInterfaceNotFound(_Typed, errors.NotFound):
    """The router has no such interface."""


class RouterInterfaceNotFoundForSubnet(_Typed, errors.NotFound):
    """The router has no interface in that subnet."""


class NetworkInUse(InUse):
    pass


class SubnetInUse(InUse):
    pass


class PortInUse(InUse):
    pass


class RouterInUse(InUse):
    pass


class RouterExternalGatewayInUseByFloatingIp(InUse):
    pass


class RouterInterfaceInUseByFloatingIP(InUse):
    pass


class RouterInterfaceInUseByRoute(InUse):
    pass


class SecurityGroupInUse(InUse):
    pass


class SecurityGroupRuleExists(InUse):
    pass


class SecurityGroupDefaultAlreadyExists(InUse):
    pass


class SecurityGroupCannotRemoveDefault(InUse):
    pass


class SecurityGroupCannotUpdateDefault(InUse):
    pass


class SecurityGroupInvalidIcmpValue(BadRequest):
    pass


class SecurityGroupInvalidPortRange(BadRequest):
    pass


class SecurityGroupInvalidPortValue(BadRequest):
    pass


class SecurityGroupMissingIcmpType(BadRequest):
    pass


class SecurityGroupNotSingleGroupRules(BadRequest):
    pass


class SecurityGroupRemoteGroupAndRemoteIpPrefix(BadRequest):
    pass


class SecurityGroupRuleParameterConflict(BadRequest):
    pass


class SecurityGroupEthertypeConflictWithProtocol(BadRequest):
    pass


class SecurityGroupProtocolRequiredWithPorts(BadRequest):
    pass


class MacAddressInUse(InUse):
    pass


class PortExists(InUse):
    """A service chose the id of a port that is there already."""


class IpAddressAlreadyAllocated(InUse):
    pass


class IpAddressGenerationFailure(InUse):
    pass


class ExternalIpAddressExhausted(InUse):
    pass


class FloatingIPPortAlreadyAssociated(InUse):
    pass


class NoNetworkAvailable(_Typed, errors.Unavailable):
    """No segment is left for another network."""


class InvalidSharedSetting(InUse):
    """Others still use what would be taken from them."""


class ExternalNetworkInUse(InUse):
    pass


class OverQuota(_Typed, errors.Conflict):
    """A limit of the project would be exceeded; this service answers it with 409."""


class RevisionNumberConstraintFailed(_Typed, errors.PreconditionFailed):
    """If-Match names another revision than the resource has."""


class PolicyNotAuthorized(_Typed, errors.Forbidden):
    """The caller may see the resource, and may not do this to it."""


class AddressPairAndPortSecurityRequired(InUse):
    pass


class PortSecurityAndIPRequiredForSecurityGroups(BadRequest):
    pass


class PortSecurityPortHasSecurityGroup(InUse):
    pass


class InvalidIpForNetwork(BadRequest):
    pass


class InvalidIpForSubnet(BadRequest):
    pass


class GatewayConflictWithAllocationPools(InUse):
    pass


class OverlappingAllocationPools(InUse):
    pass


class OutOfBoundsAllocationPool(BadRequest):
    pass


class InvalidAllocationPool(BadRequest):
    pass


class RoutesExhausted(BadRequest):
    pass


class InvalidRoutes(BadRequest):
    pass


class GatewayIpInUse(InUse):
    pass


class InvalidQuotaValue(InUse):
    pass


class AvailabilityZoneNotFound(_Typed, errors.NotFound):
    """No agent is in the zone."""


class FlatNetworkInUse(InUse):
    pass


class TunnelIdInUse(InUse):
    pass


class ServicePortInUse(InUse):
    """A port that its owner must remove."""


class PortBound(InUse):
    """Something that a bound port cannot change."""


class PortBindingNotFound(_Typed, errors.NotFound):
    """The port has no binding on that host, or none that could be activated."""

    def __init__(self, port_id: str, host: str) -> None:
        super().__init__(f"Binding for port {port_id} for host {host} could not be found.")


class PortBindingAlreadyExists(InUse):
    def __init__(self, port_id: str, host: str) -> None:
        super().__init__(f"Binding for port {port_id} on host {host} already exists.")


class PortBindingAlreadyActive(InUse):
    def __init__(self, port_id: str, host: str) -> None:
        super().__init__(f"Binding for port {port_id} on host {host} is already active.")


class PortBindingError(_Typed, errors.Internal):
    """The host cannot take the port; this service answers it with 500, as upstream does."""

    def __init__(self, port_id: str, host: str) -> None:
        super().__init__(f"Binding for port {port_id} on host {host} could not be created or updated.")


class DuplicateRbacPolicy(InUse):
    """The same access has been given already."""


class RbacPolicyInUse(InUse):
    """The access is being used."""


class NetworkHostedByDHCPAgent(InUse):
    pass


class RouterHostedByL3Agent(InUse):
    pass


class InvalidDHCPAgent(InUse):
    pass


class InvalidL3Agent(InUse):
    pass


class DefaultExternalNetworkExists(InUse):
    pass


class DNSNameServersExhausted(BadRequest):
    pass


class HostRoutesExhausted(BadRequest):
    pass


class SecurityGroupInvalidProtocolForPort(BadRequest):
    pass


class SubnetMismatchForPort(BadRequest):
    pass


class AllowedAddressPairExhausted(BadRequest):
    pass


class NetworkNotHostedByDhcpAgent(InUse):
    pass


class RouterNotHostedByL3Agent(InUse):
    pass


class SubnetPoolDeleteError(InUse):
    """Subnets still have prefixes of the pool."""


class SubnetPoolQuotaExceeded(InUse):
    """The project would have more of the pool than it may."""


class SubnetAllocationError(InUse):
    """The pool has no such prefix left."""


class MinPrefixSubnetAllocationError(BadRequest):
    pass


class MaxPrefixSubnetAllocationError(BadRequest):
    pass


class IllegalSubnetPoolPrefixBounds(BadRequest):
    pass


class IllegalSubnetPoolUpdate(BadRequest):
    pass
