"""Puts the network agent of a host together: driver, reconciling side, metadata proxy, bus methods, loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pileus.kernel.assembly import Agent, AgentEnv
from pileus.kernel.errors import ConfigurationError
from pileus.kernel.loops import Loop
from pileus.network.agent.loops import Keeper
from pileus.network.agent.metadata import MetadataProxy, by_secret, by_token
from pileus.network.agent.secret import shared_secret
from pileus.network.drivers.base import NetworkDriver, Settings
from pileus.network.drivers.fake import FakeDriver

_AGAIN_SECONDS = 10.0
_PULL_SECONDS = 120.0
"""Nudges and the answers to heartbeats say when there is something new: this is for none of them."""
_COMPARE_SECONDS = 180.0
_REPORT_SECONDS = 120.0
"""What changes is reported at once: this is for what the controller has lost."""
_HEARTBEAT_SECONDS = 5.0
"""At most so often; the controller says how often."""


def assemble(env: AgentEnv) -> Agent:
    """The agent of this process. Loops only say what is due; one thread of the keeper's own does the work on the host."""
    driver = make_driver(env)
    keeper = Keeper(env.host, driver, env.bus, wires_only="network" not in env.config.pileus.roles)
    url = env.options.metadata_url or f"{env.config.internal_url}/compute{'/nodes' if env.token else ''}"
    proof = by_token(env.token) if env.token else by_secret(shared_secret(env.home))
    proxy = MetadataProxy(url, proof, keeper.owner, ca_file=env.config.ca_file or "")
    keeper.applied = proxy.listen

    def start() -> None:
        proxy.start()
        keeper.start()

    def stop() -> None:
        keeper.stop()
        proxy.stop()

    return Agent(calls=calls_of(keeper), loops=loops_of(keeper), start=start, stop=stop, halt=driver.remove_everything, remove=driver.remove_everything)


def calls_of(keeper: Keeper) -> dict[str, Callable[[dict[str, Any]], None]]:
    """What is served on `agent.<host>`."""
    return {"network.nudge": keeper.nudged, "network.taps": keeper.taps_changed}


def loops_of(keeper: Keeper) -> tuple[Loop, ...]:
    """What time says to the keeper."""
    return (
        Loop("network_again", _AGAIN_SECONDS, lambda _: keeper.want_again()),
        Loop("network_desired", _PULL_SECONDS, lambda _: keeper.want_pull()),
        Loop("network_compare", _COMPARE_SECONDS, lambda _: keeper.want_compare()),
        Loop("network_report", _REPORT_SECONDS, lambda _: keeper.want_report()),
        Loop("network_heartbeat", _HEARTBEAT_SECONDS, lambda _: keeper.heartbeat()),
    )


def make_driver(env: AgentEnv) -> NetworkDriver:
    """The driver that configuration asks for. ConfigurationError for one there is not."""
    options = env.options
    settings = Settings(
        home=env.home,
        host=env.host,
        external_bridge=options.external_bridge,
        external_cidr=options.external_cidr,
        external_interface=options.external_interface,
        physical_network=options.physical_network,
        vtep=options.vtep,
        dns_domain=options.dns_domain,
    )
    if env.config.pileus.simulate or options.driver == "fake":
        return FakeDriver(settings)
    if options.driver != "linux":
        raise ConfigurationError(f'network.driver is "{options.driver}"; there are "linux" and "fake".')
    # Only a host with real networks loads what speaks to its kernel.
    from pileus.network.drivers.linux.driver import LinuxDriver  # noqa: PLC0415

    return LinuxDriver(settings)
