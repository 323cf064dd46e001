"""What is asked of providers, read and checked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Group:
    """Resources and conditions that belong together. Only the group without suffix may be spread over several providers.

    `required`: of every set at least one trait; `member_of`: of every set at least one aggregate.
    """

    suffix: str = ""
    resources: dict[str, int] = field(default_factory=dict)
    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()
    member_of: tuple[frozenset[str], ...] = ()
    not_member_of: frozenset[str] = frozenset()
    in_tree: str | None = None

    def traits(self) -> set[str]:
        return set(self.forbidden).union(*self.required)


@dataclass(frozen=True)
class CandidatesRequest:
    """One `GET /allocation_candidates`, read and checked."""

    groups: tuple[Group, ...]
    limit: int | None
    isolate: bool
    root_required: frozenset[str]
    root_forbidden: frozenset[str]
    same_subtrees: tuple[frozenset[str], ...]
    nested: bool

    def traits(self) -> set[str]:
        return set(self.root_required | self.root_forbidden).union(*(group.traits() for group in self.groups))

    def resource_classes(self) -> set[str]:
        return set().union(*(group.resources for group in self.groups))


@dataclass(frozen=True)
class ProviderFilter:
    """One `GET /resource_providers`: every condition that is given must hold."""

    name: str | None = None
    uuid: str | None = None
    group: Group = Group()
