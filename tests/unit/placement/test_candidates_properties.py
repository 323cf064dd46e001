"""What holds for every candidate, whatever providers there are; and for usage sums, whatever was done."""

from __future__ import annotations

import datetime as dt
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pileus.placement.logic import candidates
from pileus.placement.logic.model import CandidatesRequest, Group
from pileus.placement.store.snapshot import Inventory, Provider, Snapshot
from pileus.placement.store.standard import SHARING

CLASSES = ("VCPU", "DISK_GB", "VGPU")
TRAITS = ("HW_NUMA_ROOT", "HW_CPU_X86_AVX")
AGGREGATES = ("a", "b")


@st.composite
def worlds(draw):
    providers: dict[int, Provider] = {}
    for key in range(1, draw(st.integers(1, 6)) + 1):
        parent = draw(st.sampled_from([None, *providers])) if providers else None
        root = providers[parent].root_id if parent else key
        provider = Provider((key, f"u{key}", f"n{key}", 0, 0, root, parent, dt.datetime.min, dt.datetime.min))
        provider.traits = frozenset(draw(st.sets(st.sampled_from((*TRAITS, SHARING)))))
        provider.aggregates = frozenset(draw(st.sets(st.sampled_from(AGGREGATES))))
        for name in draw(st.sets(st.sampled_from(CLASSES))):
            provider.inventories[name] = Inventory(draw(st.integers(0, 4)), draw(st.integers(0, 2)), 1, 4, 1)
        providers[key] = provider
    return Snapshot(providers)


@st.composite
def requests(draw):
    def group(suffix):
        return Group(
            suffix=suffix,
            resources=draw(st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 3), min_size=1)),
            required=tuple(frozenset({name}) for name in draw(st.sets(st.sampled_from(TRAITS), max_size=1))),
            forbidden=frozenset(draw(st.sets(st.sampled_from(TRAITS), max_size=1))),
            member_of=tuple(frozenset({name}) for name in draw(st.sets(st.sampled_from(AGGREGATES), max_size=1))),
        )

    suffixes = draw(st.sampled_from([("",), ("_A",), ("", "_A"), ("_A", "_B"), ("", "_A", "_B")]))
    return CandidatesRequest(
        groups=tuple(group(suffix) for suffix in suffixes),
        limit=None,
        isolate=draw(st.booleans()),
        root_required=frozenset(),
        root_forbidden=frozenset(),
        same_subtrees=(),
        nested=True,
    )


@settings(max_examples=300, deadline=None)
@given(worlds(), requests())
def test_every_candidate_serves_the_request_and_none_is_missing(world, request_):
    found = candidates.find(world, request_)
    seen = [candidates._identity(candidate) for candidate in found]
    assert len(seen) == len(set(seen))
    for candidate in found:
        for provider, amounts in candidate.allocations.items():
            for name, amount in amounts.items():
                inventory = provider.inventories[name]
                assert inventory.used + amount <= inventory.limit
        for group in request_.groups:
            serving = candidate.mappings[group.suffix]
            assert not any(group.forbidden & provider.traits for provider in serving)
            assert all(any(wanted & provider.traits for provider in serving) for wanted in group.required)
            assert len(serving) == 1 or not group.suffix
        alone = [candidate.mappings[group.suffix][0].id for group in request_.groups if group.suffix]
        assert not request_.isolate or len(set(alone)) == len(alone)
        total = {name: sum(part.get(name, 0) for part in candidate.allocations.values()) for name in CLASSES}
        assert total == {name: sum(group.resources.get(name, 0) for group in request_.groups) for name in CLASSES}
    assert len(found) == len(brute_force(world, request_))


def brute_force(world, request_):
    """The same question answered the slow way: every assignment of every wanted resource to every provider."""
    answers = set()
    everyone = list(world.by_id.values())
    wanted = [(group, name, amount) for group in request_.groups for name, amount in group.resources.items()]
    for tree in world.trees.values():
        pool = [
            p for p in everyone if p in tree or (p.shares and any(p.aggregates & member.aggregates for member in tree))
        ]
        for assignment in itertools.product(pool, repeat=len(wanted)):
            if serves(world, request_, wanted, assignment):
                parts: dict = {}
                mappings: dict = {}
                for (group, name, amount), provider in zip(wanted, assignment, strict=True):
                    parts[provider.id, name] = parts.get((provider.id, name), 0) + amount
                    mappings.setdefault(group.suffix, set()).add(provider.id)
                answers.add((frozenset(parts.items()), frozenset((s, frozenset(ids)) for s, ids in mappings.items())))
    return answers


def serves(world, request_, wanted, assignment):
    by_group: dict = {}
    sums: dict = {}
    for (group, name, amount), provider in zip(wanted, assignment, strict=True):
        inventory = provider.inventories.get(name)
        if inventory is None or not inventory.fits(amount):
            return False
        by_group.setdefault(group.suffix, set()).add(provider)
        sums[provider, name] = sums.get((provider, name), 0) + amount
    for group in request_.groups:
        serving = by_group[group.suffix]
        if group.suffix and len(serving) > 1:
            return False
        for provider in serving:
            aggregates = provider.aggregates | (frozenset() if group.suffix else world.root_of(provider).aggregates)
            if group.forbidden & provider.traits or not all(one & aggregates for one in group.member_of):
                return False
        if not all(any(one & provider.traits for provider in serving) for one in group.required):
            return False
    alone = [next(iter(by_group[group.suffix])) for group in request_.groups if group.suffix]
    if request_.isolate and len(set(alone)) != len(alone):
        return False
    return all(p.inventories[n].used + a <= p.inventories[n].limit and a <= p.inventories[n].max_unit for (p, n), a in sums.items())
