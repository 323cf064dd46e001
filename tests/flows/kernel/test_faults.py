"""The harness of faults, and the flow engine in it."""

import dataclasses

import pytest

from tests.flows import harness
from tests.flows.kernel import building
from tests.flows.kernel.building import BUILD

PLUG = harness.Plug(BUILD, building.start, building.all_there, building.nothing_left)


@pytest.mark.parametrize("fault", harness.faults(BUILD), ids=str)
def test_a_flow_keeps_its_promises_whatever_goes_wrong(fault, tmp_path):
    harness.survive(PLUG, fault, tmp_path)


def careless(**changes):
    """The flow with steps as they must not be."""
    steps = tuple(dataclasses.replace(step, **changes.get(step.name, {})) for step in BUILD.steps)
    return dataclasses.replace(PLUG, flow=dataclasses.replace(BUILD, steps=steps))


def makes_another_port(run):
    return {"port_id": building.world(run.service).create_port(run.resource_id)}


def drops_only_what_was_recorded(run):
    if "port" in run.results:
        building.world(run.service).delete_port(run.results["port"]["port_id"])


@pytest.mark.parametrize(
    ("plug", "kind", "step"),
    [
        (careless(port={"do": makes_another_port}), "repeated", "port"),
        (careless(port={"do": makes_another_port}), "answer lost at", "port"),
        (careless(port={"do": makes_another_port}), "killed after", "port"),
        (careless(port={"undo": drops_only_what_was_recorded}), "fails after", "port"),
        (careless(port={"undo": None}), "fails before", "spawn"),
        (careless(port={"disown": None}), "lease lost and undone before", "port"),
        (careless(spawn={"do": lambda run: building.world(run.service).spawn("s1", 99, "x")}), "nothing", ""),
        (careless(spawn={"undo": None}), "cancelled in", "activate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_harness_finds_careless_steps(plug, kind, step, tmp_path):
    (fault,) = [f for f in harness.faults(BUILD) if (f.kind, f.step) == (kind, step)]
    with pytest.raises(AssertionError):
        harness.survive(plug, fault, tmp_path)
