"""What a flow is made of, as rooms write it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.kernel.context import Context
from pileus.kernel.errors import ProgrammingError

if TYPE_CHECKING:
    from pileus.kernel.service import Service


class Retry(Exception):
    """Run the step again after `seconds`; counts as an attempt."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason)
        self.seconds = seconds


class Wait(Exception):
    """Run the step again when somebody wakes the flow's resource, or after `seconds`."""

    def __init__(self, reason: str = "", seconds: float = 5.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class Abort(Exception):
    """It cannot succeed: undo what was done. The message is for the user."""


class LostLease(Exception):
    """Another worker has the flow now; this one must stop."""


@dataclasses.dataclass
class Run:
    """One flow at work, as its steps see it.

    `results` holds what finished steps returned, by step name. `epoch` grows with each worker that takes the flow;
    hosts refuse a lower one.
    """

    service: Service
    flow_id: str
    kind: str
    resource_id: str
    input: dict[str, Any]
    results: dict[str, Any]
    epoch: int
    attempt: int
    asked_by: dict[str, Any]
    context: Context
    step: str = ""
    cancelled: bool = False


Do = Callable[[Run], "dict[str, Any] | None"]
Undo = Callable[[Run], None]
Final = Callable[[Run, sa.Connection], None]
Failed = Callable[[Run, sa.Connection, str], None]


@dataclasses.dataclass(frozen=True)
class Step:
    """`do` may be repeated at any time. `undo` may find nothing, or something that was never recorded.

    `disown` gets what `do` just made when the lease was lost meanwhile, and removes it if nobody else uses it.
    """

    name: str
    do: Do
    undo: Undo | None = None
    disown: Callable[[Run, Any], None] | None = None


@dataclasses.dataclass(frozen=True)
class Flow:
    """Steps in order. `finished` and `failed` run in the transaction that ends the flow.

    `deadline` is in seconds from its first step: after it, a step that still has to wait or retry is given up.
    """

    name: str
    steps: tuple[Step, ...]
    failed: Failed | None = None
    finished: Final | None = None
    deadline: float = 600.0

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if len(set(names)) < len(names):
            raise ProgrammingError(f"flow {self.name}: results go by step name, and two steps have the same")
