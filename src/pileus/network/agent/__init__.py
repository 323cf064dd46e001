"""The network agent of a host: pulls what the host shall have, applies it, says what stands, and answers metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileus.kernel.assembly import Agent, AgentEnv


def agent(env: AgentEnv) -> Agent:
    """Assemble it; what it needs is imported here, so that naming it costs nothing."""
    from pileus.network.agent.assembly import assemble  # noqa: PLC0415

    return assemble(env)
