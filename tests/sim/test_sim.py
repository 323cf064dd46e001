"""Histories of thousands of deeds and faults on a virtual clock: whatever happened, at every quiet point all invariants hold.

    pytest tests/sim --seed 12                      one history again
    pytest tests/sim --histories 200 --deeds 2000   many
"""

from __future__ import annotations

import random

import pytest

from tests.sim.history import deeds_of, play, shortest

pytestmark = pytest.mark.timeout(3600)


def test_invariants_hold_at_every_quiet_point_of_every_history(request):
    option = request.config.getoption
    seeds = [option("--seed")] if option("--seed") else SEEDS
    if option("--histories"):
        first = option("--seed") or random.SystemRandom().randrange(1 << 20)
        seeds = list(range(first, first + option("--histories")))
    acknowledged = faults = 0
    for seed in seeds:
        deeds = deeds_of(seed, option("--deeds"))
        outcome = play(seed, deeds)
        acknowledged += outcome.acknowledged
        faults += outcome.happened.total()
        if outcome.wrong:
            pytest.fail(told(seed, deeds[: outcome.deeds], outcome.wrong, option("--shrink")), pytrace=False)
    print(f"\n{len(seeds)} histories from seed {seeds[0]}: {faults} faults, {acknowledged} acknowledged, none lost")


SEEDS = [1, 2, 3]


def told(seed, deeds, wrong, seconds):
    short = shortest(seed, deeds, seconds)
    again = play(seed, short)
    lines = [f"seed {seed}: {len(deeds)} deeds, of which {len(short)} are enough:", *again.story, "", *again.wrong]
    return "\n".join([*lines, "", "at first it was:", *wrong])


def test_the_same_seed_is_the_same_history():
    first, second = (play(5, deeds_of(5, 90)) for _ in range(2))
    assert first.story == second.story
    assert first.happened == second.happened
