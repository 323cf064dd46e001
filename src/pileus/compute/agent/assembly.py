"""Puts the compute agent of a host together: driver, calls, reconciling side, loops."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from pileus.compute.agent.calls import Calls
from pileus.compute.agent.disks import HttpsCarrier
from pileus.compute.agent.epochs import EpochBook
from pileus.compute.agent.options import AgentOptions
from pileus.compute.agent.reconcile import Keeper
from pileus.compute.drivers.base import ComputeDriver
from pileus.compute.drivers.fake import FakeDriver, FakeHost
from pileus.kernel.assembly import Agent, AgentEnv
from pileus.kernel.context import service_context
from pileus.kernel.errors import ConfigurationError, Failure
from pileus.kernel.loops import Loop

_log = logging.getLogger(__name__)

_START_AGAIN_SECONDS = 3.0
_PULL_SECONDS = 300.0
"""Nudges and the answers to reports say when there is something new: this is for the full compare."""
_HALT_SECONDS = 60.0
"""How long guests may take to shut down when the whole host is halted."""


def assemble(env: AgentEnv) -> Agent:
    """The agent of this process. The driver starts in the background: a hypervisor that is slow or broken holds up nothing else on the host."""
    driver = make_driver(env)

    def wake(server_id: str) -> None:
        env.bus.cast("controller.compute", "compute.wake", {"host": env.host, "id": server_id})

    book = EpochBook(env.home / "agent" / "compute-epochs.sqlite")
    calls = Calls(driver, book, _Images(env), wake)
    keeper = Keeper(env.host, calls, env.bus, env.home, env.options.report_seconds)
    calls.moves.carrier = HttpsCarrier(driver, driver.address, env.options.migration_port, env.home / "agent")
    calls.nudged = keeper.nudged
    stopping = threading.Event()

    def bring_up() -> None:
        while not stopping.is_set():
            try:
                driver.start(keeper.changed)
            except Exception as error:
                _log.error("the hypervisor is not usable, trying again: %s", error)
                stopping.wait(_START_AGAIN_SECONDS)
            else:
                calls.ready.set()
                keeper.start()
                return

    def start() -> None:
        threading.Thread(target=bring_up, name="compute driver start", daemon=True).start()

    def stop() -> None:
        stopping.set()
        keeper.stop()
        calls.jobs.drop_all()
        calls.moves.carrier.stop()
        if calls.ready.is_set():
            driver.stop()
        book.close()

    def halt() -> None:
        driver.halt(_HALT_SECONDS)
        keeper.forget_boot()

    def look_after() -> None:
        try:
            driver.watch()
        except Failure as failure:
            _log.warning("the hypervisor is away: %s", failure.message)

    def when_ready(act: Any) -> Any:
        return lambda _subject: act() if calls.ready.is_set() else None

    loops = (
        Loop("compute_desired", _PULL_SECONDS, when_ready(keeper.want_pull)),
        Loop("compute_report", env.options.report_seconds, when_ready(keeper.want_report)),
        Loop("compute_hypervisor", 2.0, when_ready(look_after)),
        Loop("compute_tidy", 600.0, when_ready(keeper.tidy)),
    )
    return Agent(calls=calls.methods(), loops=loops, start=start, stop=stop, halt=halt, remove=driver.remove_everything)


def make_driver(env: AgentEnv) -> ComputeDriver:
    """The driver that configuration asks for. ConfigurationError for one there is not."""
    options: AgentOptions = env.options
    if env.config.pileus.simulate or options.driver == "fake":
        host = FakeHost(
            hostname=env.host,
            address=options.host_address or "127.0.0.1",
            vcpus=options.fake_vcpus,
            memory_mb=options.fake_memory_mb,
            local_gb=options.fake_local_gb,
        )
        return FakeDriver(env.home / "agent", host, options.fake_latency, options.fake_failures)
    if options.driver != "libvirt":
        raise ConfigurationError(f'compute.driver is "{options.driver}"; there are "libvirt" and "fake".')
    if options.virt_type not in {"auto", "kvm", "qemu"}:
        raise ConfigurationError(f'compute.virt_type is "{options.virt_type}"; there are "auto", "kvm" and "qemu".')
    # libvirt's bindings are compiled and large: only a host that runs real guests loads them
    from pileus.compute.drivers.host_facts import own_address  # noqa: PLC0415
    from pileus.compute.drivers.libvirt import LibvirtDriver, LibvirtSettings  # noqa: PLC0415

    settings = LibvirtSettings(
        host=env.host,
        address=options.host_address or own_address(),
        uri=options.libvirt_uri,
        virt_type=options.virt_type,
        cpu_model=options.cpu_model,
        tb_cache_mb=options.tb_cache_mb,
        vnc_address=options.vnc_address,
        image_keep_seconds=options.image_cache_seconds,
    )
    return LibvirtDriver(env.home, settings)


class _Images:
    """Images as the compute service's own user gets them."""

    def __init__(self, env: AgentEnv) -> None:
        self._env = env

    def show(self, image_id: str) -> Mapping[str, Any]:
        shown: Mapping[str, Any] = self._client().show(image_id)
        return shown

    def download(self, image_id: str) -> Iterator[bytes]:
        pieces: Iterator[bytes] = self._client().download(image_id)
        return pieces

    def _client(self) -> Any:
        return self._env.clients.image(service_context("compute"))
