"""Which host a server goes to: a pure decision over what placement proposes and what is known of each host.

`choose` gives the hosts in order, the best first, and for each refused one the reason. Filters and weighers are plain functions in two lists.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pileus.compute.options import Options


@dataclass(frozen=True, kw_only=True)
class HostState:
    """A host as the decision sees it. Free amounts may be negative where more is given away than there is."""

    host: str
    node: str
    provider: str
    up: bool
    enabled: bool
    disabled_reason: str | None = None
    zone: str
    free_vcpus: float
    free_memory_mb: float
    free_disk_gb: float
    in_work: int = 0
    hypervisor_type: str = "QEMU"
    hypervisor_version: int = 0
    architecture: str = "x86_64"
    aggregate_metadata: Mapping[str, frozenset[str]] = field(default_factory=dict)
    servers: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a server asks of its host."""

    zone: str | None = None
    host: str | None = None
    node: str | None = None
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    image_properties: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    max_server_per_host: int = 1
    group_members: frozenset[str] = frozenset()
    tried: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Choice:
    """The hosts in order, and host -> why not for the others."""

    hosts: list[HostState]
    refused: dict[str, str]


def choose(options: Options, wish: Wish, hosts: Sequence[HostState]) -> Choice:
    """Filter and weigh. Equal weights keep the order in which placement proposed the hosts."""
    refused: dict[str, str] = {}
    fitting = []
    for state in hosts:
        reason = next((why for check in FILTERS if (why := check(wish, state)) is not None), None)
        if reason is None:
            fitting.append(state)
        else:
            refused[state.host] = reason
    return Choice(_weigh(options, wish, fitting), refused)


Filter = Callable[[Wish, HostState], str | None]


def _tried(wish: Wish, state: HostState) -> str | None:
    return "the server was tried here before" if state.host in wish.tried else None


def _ignored(wish: Wish, state: HostState) -> str | None:
    return "the server is to leave this host" if state.host in wish.ignored else None


def _named(wish: Wish, state: HostState) -> str | None:
    if wish.host and wish.host != state.host:
        return f"host {wish.host} was asked for"
    if wish.node and wish.node != state.node:
        return f"hypervisor {wish.node} was asked for"
    return None


def _alive(_wish: Wish, state: HostState) -> str | None:
    if not state.enabled:
        return f"the host is disabled: {state.disabled_reason or 'no reason given'}"
    return None if state.up else "the host has not reported lately"


def _zone(wish: Wish, state: HostState) -> str | None:
    if wish.zone and wish.zone != state.zone:
        return f"the host is in availability zone {state.zone}, not {wish.zone}"
    return None


_HYPERVISORS = {"qemu": {"qemu", "kvm", "fake"}, "kvm": {"qemu", "kvm", "fake"}}
_ARCHITECTURES = {"amd64": "x86_64", "x86-64": "x86_64", "i386": "i686", "arm64": "aarch64"}


def _image(wish: Wish, state: HostState) -> str | None:
    properties = wish.image_properties
    wanted = str(properties.get("hw_architecture") or properties.get("architecture") or "").lower()
    if wanted and _ARCHITECTURES.get(wanted, wanted) not in {state.architecture, "i686"}:
        return f"the image is for {wanted}, the host is {state.architecture}"
    kind = str(properties.get("img_hv_type") or properties.get("hypervisor_type") or "").lower()
    if kind and state.hypervisor_type.lower() not in _HYPERVISORS.get(kind, {kind}):
        return f"the image is for hypervisor {kind}, the host has {state.hypervisor_type}"
    return None


def _aggregate_specs(wish: Wish, state: HostState) -> str | None:
    for key, wanted in wish.extra_specs.items():
        scope, colon, name = key.partition(":")
        if colon and scope != "aggregate_instance_extra_specs":
            continue
        values = state.aggregate_metadata.get(name if colon else key)
        if values is None and not colon:
            continue  # a plain name that no aggregate knows is somebody else's
        if values is None or not any(fits(value, wanted) for value in values):
            return f"extra spec {key} asks for {wanted}; the host's aggregates do not have it"
    return None


def _capabilities(wish: Wish, state: HostState) -> str | None:
    known = {
        "hypervisor_type": state.hypervisor_type,
        "hypervisor_version": str(state.hypervisor_version),
        "cpu_info:arch": state.architecture,
    }
    for key, wanted in wish.extra_specs.items():
        if not key.startswith("capabilities:"):
            continue
        value = known.get(key.removeprefix("capabilities:"))
        if value is None or not fits(value, wanted):
            return f"extra spec {key} asks for {wanted}; the host has {value}"
    return None


def _group(wish: Wish, state: HostState) -> str | None:
    mine = wish.group_members & state.servers
    if wish.policy == "anti-affinity" and len(mine) >= wish.max_server_per_host:
        return "the server group has as many servers here as anti-affinity allows"
    return None


def _hints(wish: Wish, state: HostState) -> str | None:
    same = _ids(wish.hints.get("same_host"))
    if same and not same & state.servers:
        return "none of the servers of hint same_host is here"
    different = _ids(wish.hints.get("different_host"))
    if different and different & state.servers:
        return "a server of hint different_host is here"
    return None


def _ids(value: Any) -> set[str]:
    if value is None:
        return set()
    return {str(v) for v in value} if isinstance(value, list) else {str(value)}


FILTERS: tuple[Filter, ...] = (
    _tried,
    _ignored,
    _named,
    _alive,
    _zone,
    _image,
    _aggregate_specs,
    _capabilities,
    _group,
    _hints,
)

_NUMERIC = {"=": operator.ge, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le}
_TEXT = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s>=": operator.ge,
    "s>": operator.gt,
    "s<=": operator.le,
    "s<": operator.lt,
}
_OPERATOR = re.compile(r"(<in>|<all-in>|<or>|s==|s!=|s>=|s<=|s>|s<|==|!=|>=|<=|=)\s+")


def fits(value: str, wanted: str) -> bool:
    """Whether a value satisfies the little language of extra specs: `>= 4`, `s== x`, `<or> a <or> b`, `<in> x`, or plain equality."""
    found = _OPERATOR.match(wanted)
    if found is None:
        return value == wanted
    sign, rest = found.group(1), wanted[found.end() :]
    if sign == "<in>":
        return rest in value
    if sign == "<all-in>":
        return all(word in value for word in rest.split())
    if sign == "<or>":
        return any(value == choice.strip() for choice in rest.split("<or>"))
    if sign in _TEXT:
        return bool(_TEXT[sign](value, rest))
    try:
        return bool(_NUMERIC[sign](float(value), float(rest)))
    except ValueError:
        return False


def _weigh(options: Options, wish: Wish, hosts: list[HostState]) -> list[HostState]:
    """The hosts, best first. Each measure is scaled to 0..1 over the hosts before its weight is applied."""
    if len(hosts) < 2:
        return hosts
    measures: list[tuple[float, list[float]]] = [
        (options.cpu_weight, [h.free_vcpus for h in hosts]),
        (options.ram_weight, [h.free_memory_mb for h in hosts]),
        (options.disk_weight, [h.free_disk_gb for h in hosts]),
        (options.io_weight, [float(h.in_work) for h in hosts]),
    ]
    if wish.policy in {"soft-affinity", "soft-anti-affinity", "affinity"}:
        sign = -1.0 if wish.policy == "soft-anti-affinity" else 1.0
        measures.append(
            (sign * options.soft_affinity_weight, [float(len(wish.group_members & h.servers)) for h in hosts])
        )
    totals = [0.0] * len(hosts)
    for weight, values in measures:
        low, high = min(values), max(values)
        if weight and high > low:
            for place, value in enumerate(values):
                totals[place] += weight * (value - low) / (high - low)
    order = sorted(range(len(hosts)), key=lambda place: -totals[place])
    return [hosts[place] for place in order]


_RESOURCE = re.compile(r"resources:([A-Z0-9_]+)\Z")


def resources_of(flavor: Mapping[str, Any], *, local_disk: bool = True) -> dict[str, int]:
    """Resource class -> amount that a server of this flavor takes from placement; `resources:` extra specs override or remove."""
    disk = flavor["root_gb"] + flavor["ephemeral_gb"] + -(-flavor["swap"] // 1024) if local_disk else 0
    found = {"VCPU": flavor["vcpus"], "MEMORY_MB": flavor["memory_mb"], "DISK_GB": disk}
    for key, value in flavor["extra_specs"].items():
        named = _RESOURCE.match(key)
        if named and str(value).isdigit():
            found[named.group(1)] = int(value)
    return {name: amount for name, amount in found.items() if amount > 0}


def traits_of(flavor: Mapping[str, Any], image: Mapping[str, Any] | None) -> list[str]:
    """The `required` of an allocation candidates query: traits, those that are forbidden with a `!`."""
    found = []
    for key, value in {**((image or {}).get("properties") or {}), **flavor["extra_specs"]}.items():
        if str(key).startswith("trait:") and value in {"required", "forbidden"}:
            found.append(("" if value == "required" else "!") + str(key).removeprefix("trait:"))
    return sorted(found)
