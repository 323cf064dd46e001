"""The compute agent: runs the servers of one host. `calls` is what the controller asks, `reconcile` what the host does by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileus.kernel.assembly import Agent, AgentEnv


def agent(env: AgentEnv) -> Agent:
    """The agent of this process."""
    from pileus.compute.agent.assembly import assemble  # noqa: PLC0415 - others read options here and load no driver

    return assemble(env)
