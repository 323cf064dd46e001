"""Which combinations of providers could serve a request.

For every tree (its root is the *anchor*) the pool is the tree's providers plus the sharing providers that have an aggregate in common with any of
them. A suffixed group needs one provider of the pool for all it asks; the group without suffix may take each resource class from another one. A
candidate is one choice for every group that keeps the conditions across groups: isolation, common subtrees, and capacity for the sum of what lands
on one provider. The same candidate found from two anchors counts once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pileus.placement.logic.model import CandidatesRequest, Group
from pileus.placement.store.snapshot import Provider, Snapshot

Amounts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Choice:
    """How one group is served: amounts by provider."""

    suffix: str
    parts: tuple[tuple[Provider, Amounts], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve the whole request."""

    allocations: dict[Provider, Amounts]
    mappings: dict[str, list[Provider]]


def find(snapshot: Snapshot, request: CandidatesRequest, *, breadth_first: bool = False) -> list[Candidate]:
    """Up to `request.limit` candidates, in order of provider id; with `breadth_first` one of each tree in turn."""
    seen: set[object] = set()
    found: list[Candidate] = []
    sharers = _sharers(snapshot)
    trees = (_tree_candidates(snapshot, request, tree, sharers) for tree in _anchors(snapshot, request))
    candidates = _in_turn(trees) if breadth_first else itertools.chain.from_iterable(trees)
    several = bool(sharers) or len(request.groups) > 1
    for candidate in candidates:
        if several:
            key = _identity(candidate)
            if key in seen:
                continue
            seen.add(key)
        found.append(candidate)
        if request.limit is not None and len(found) >= request.limit:
            break
    return found


def providers_to_show(snapshot: Snapshot, candidates: Iterable[Candidate], *, nested: bool) -> list[Provider]:
    """The providers whose summaries belong to the answer: with nesting whole trees, else those allocated from."""
    used = dict.fromkeys(provider for candidate in candidates for provider in candidate.allocations)
    if not nested:
        return list(used)
    roots = dict.fromkeys(provider.root_id for provider in used)
    return [provider for root in roots for provider in snapshot.trees.get(root, ())]


def _identity(candidate: Candidate) -> object:
    return (
        frozenset(
            (p.id, name, amount) for p, amounts in candidate.allocations.items() for name, amount in amounts.items()
        ),
        tuple((suffix, frozenset(p.id for p in providers)) for suffix, providers in sorted(candidate.mappings.items())),
    )


def _in_turn(trees: Iterable[Iterator[Candidate]]) -> Iterator[Candidate]:
    waiting = list(trees)
    while waiting:
        remaining = []
        for tree in waiting:
            candidate = next(tree, None)
            if candidate is not None:
                remaining.append(tree)
                yield candidate
        waiting = remaining


def _anchors(snapshot: Snapshot, request: CandidatesRequest) -> Iterator[list[Provider]]:
    """The trees to look at: those whose root has the root's traits."""
    if not request.root_required and not request.root_forbidden:
        yield from snapshot.trees.values()
        return
    for root_id, tree in snapshot.trees.items():
        root = snapshot.by_id.get(root_id)
        if root and request.root_required <= root.traits and not request.root_forbidden & root.traits:
            yield tree


def _sharers(snapshot: Snapshot) -> dict[str, list[Provider]]:
    """Sharing providers by aggregate."""
    by_aggregate: dict[str, list[Provider]] = {}
    for provider in snapshot.sharing:
        for aggregate in provider.aggregates:
            by_aggregate.setdefault(aggregate, []).append(provider)
    return by_aggregate


def _pool(tree: list[Provider], sharers: dict[str, list[Provider]]) -> list[Provider]:
    if not sharers:
        return tree
    pool = {provider.id: provider for provider in tree}
    for provider in tree:
        for aggregate in provider.aggregates:
            for sharer in sharers.get(aggregate, ()):
                pool.setdefault(sharer.id, sharer)
    return list(pool.values())


def _tree_candidates(
    snapshot: Snapshot, request: CandidatesRequest, tree: list[Provider], sharers: dict[str, list[Provider]]
) -> Iterator[Candidate]:
    pool = _pool(tree, sharers)
    if len(request.groups) == 1:
        for choice in _choices(snapshot, request.groups[0], pool, nested=request.nested):
            yield _single(choice)
        return
    options: list[list[Choice]] = []
    for group in request.groups:
        choices = list(_choices(snapshot, group, pool, nested=request.nested))
        if not choices:
            return
        options.append(choices)
    for combination in itertools.product(*options):
        candidate = _combine(snapshot, request, combination)
        if candidate is not None:
            yield candidate


def _single(choice: Choice) -> Candidate:
    if len(choice.parts) == 1:
        provider, amounts = choice.parts[0]
        return Candidate({provider: amounts}, {choice.suffix: [provider]})
    allocations: dict[Provider, Amounts] = {}
    for provider, amounts in choice.parts:
        allocations.setdefault(provider, {}).update(amounts)
    return Candidate(allocations, {choice.suffix: list(allocations)})


def _choices(snapshot: Snapshot, group: Group, pool: list[Provider], *, nested: bool) -> Iterator[Choice]:
    """Every way in which the pool can serve one group."""
    spread = not group.suffix
    eligible = [p for p in pool if _eligible(snapshot, group, p, spread=spread)]
    if not eligible:
        return
    wanted = group.resources
    if not spread or len(eligible) == 1:
        for provider in eligible:
            if _has_all(provider, wanted) and _has_traits(group, provider.traits):
                yield Choice(group.suffix, ((provider, wanted),))
        return
    servers: list[list[tuple[Provider, str, int]]] = []
    for name, amount in wanted.items():
        able = [(p, name, amount) for p in eligible if (inv := p.inventories.get(name)) and inv.fits(amount)]
        if not able:
            return
        servers.append(able)
    for combination in itertools.product(*servers):
        if group.required and not _has_traits(group, frozenset().union(*(p.traits for p, _, _ in combination))):
            continue
        if not nested and not _flat(combination):
            continue
        parts: dict[Provider, Amounts] = {}
        for provider, name, amount in combination:
            parts.setdefault(provider, {})[name] = amount
        yield Choice(group.suffix, tuple(parts.items()))


def _flat(combination: Iterable[tuple[Provider, str, int]]) -> bool:
    """Whether no tree gives more than one provider: callers below 1.29 do not know trees."""
    by_root: dict[int, int] = {}
    return all(by_root.setdefault(provider.root_id, provider.id) == provider.id for provider, _, _ in combination)


def _eligible(snapshot: Snapshot, group: Group, provider: Provider, *, spread: bool) -> bool:
    """Whether the conditions that each provider must meet alone allow this one.

    For the group without suffix a root's aggregates count for its whole tree; for the others only a provider's own do.
    """
    if group.forbidden and group.forbidden & provider.traits:
        return False
    if group.in_tree is not None and snapshot.root_of(provider) is not _tree_root(snapshot, group.in_tree):
        return False
    if not group.member_of and not group.not_member_of:
        return True
    aggregates = provider.aggregates
    if spread and provider.root_id != provider.id:
        aggregates |= snapshot.root_of(provider).aggregates
    return not group.not_member_of & aggregates and all(wanted & aggregates for wanted in group.member_of)


def _tree_root(snapshot: Snapshot, uuid: str) -> Provider | None:
    provider = snapshot.by_uuid(uuid)
    return snapshot.root_of(provider) if provider else None


def _has_all(provider: Provider, wanted: Amounts) -> bool:
    held = provider.inventories
    for name, amount in wanted.items():
        inventory = held.get(name)
        if inventory is None or not inventory.fits(amount):
            return False
    return True


def _has_traits(group: Group, traits: frozenset[str]) -> bool:
    return all(wanted & traits for wanted in group.required)


def _combine(snapshot: Snapshot, request: CandidatesRequest, combination: tuple[Choice, ...]) -> Candidate | None:
    """The candidate these choices make together, None when a condition across groups fails."""
    if request.isolate:
        alone = [choice.parts[0][0].id for choice in combination if choice.suffix]
        if len(set(alone)) != len(alone):
            return None
    by_suffix = {choice.suffix: choice.parts[0][0] for choice in combination if choice.suffix}
    for subtree in request.same_subtrees:
        if not _one_subtree(snapshot, {by_suffix[suffix] for suffix in subtree}):
            return None
    allocations: dict[Provider, Amounts] = {}
    for choice in combination:
        for provider, amounts in choice.parts:
            if not amounts:  # a group without resources only points at a provider
                continue
            sums = allocations.setdefault(provider, {})
            for name, amount in amounts.items():
                sums[name] = sums.get(name, 0) + amount
    if not all(_bears(provider, sums) for provider, sums in allocations.items()):
        return None
    if not request.nested and not _flat(
        (p, name, amount) for p, a in allocations.items() for name, amount in a.items()
    ):
        return None
    return Candidate(allocations, {c.suffix: [provider for provider, _ in c.parts] for c in combination})


def _bears(provider: Provider, sums: Amounts) -> bool:
    for name, amount in sums.items():
        inventory = provider.inventories[name]
        if inventory.used + amount > inventory.limit or amount > inventory.max_unit:
            return False
    return True


def _one_subtree(snapshot: Snapshot, providers: set[Provider]) -> bool:
    """Whether one of the providers is an ancestor of all the others."""
    lines = [_ancestors(snapshot, provider) for provider in providers]
    shared = set.intersection(*lines)
    return any(provider.id in shared for provider in providers)


def _ancestors(snapshot: Snapshot, provider: Provider) -> set[int]:
    """A provider's own id and those of all above it."""
    line = {provider.id}
    while provider.parent_id is not None and provider.parent_id not in line:
        line.add(provider.parent_id)
        above = snapshot.by_id.get(provider.parent_id)
        if above is None:
            break
        provider = above
    return line
