"""The world outside of compute in files, so that a killed process leaves there what it did."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import pickle

from pileus.compute.agent.calls import Calls
from pileus.compute.agent.epochs import EpochBook
from pileus.compute.drivers.fake import FakeDriver, FakeHost
from tests.api.compute.world import FakeNetworks, World

HOST = FakeHost(hostname="host1", address="127.0.0.1", vcpus=100, memory_mb=100_000, local_gb=1000)


class StoredNetworks(FakeNetworks):
    """Reads its state before each call and writes it after."""

    def __init__(self, path):
        self.path = path
        super().__init__()
        self._save()

    def _save(self):
        scratch = self.path.with_suffix(".new")
        scratch.write_bytes(pickle.dumps({k: v for k, v in vars(self).items() if k not in {"path", "lock"}}))
        scratch.rename(self.path)

    def load(self):
        vars(self).update(pickle.loads(self.path.read_bytes()))
        return self

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if not name.startswith(("list_", "show_", "create_", "update_", "delete_")):
            return found

        @functools.wraps(found)
        def call(*arguments, **options):
            with open(self.path.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.load()
                try:
                    return found(*arguments, **options)
                finally:
                    self._save()

        return call


@contextlib.contextmanager
def host_at(home):
    """The host as it is in its files now."""
    driver = FakeDriver(home, HOST, {}, {})
    driver.start(lambda server_id: None)
    calls = Calls(driver, EpochBook(home / "epochs.sqlite"), None, lambda server_id: None)
    calls.ready.set()
    try:
        yield driver, calls
    finally:
        calls.jobs.drop_all()
        calls.book.close()
        driver.stop()


class StoredWorld(World):
    """One host and networks in files. Ports are plugged as soon as they are looked at."""

    def __init__(self, folder):
        super().__init__(db_url=f"sqlite:///{folder}/compute.sqlite")
        self.home = folder / "host1"
        networks = StoredNetworks(folder / "networks.pickle")
        self.networks = networks
        self.service.clients.network = lambda context: networks
        self.bus.serve("agent.host1", {name: self._method(name) for name in self._names()})
        self.flavor()

    def _names(self):
        with host_at(self.home) as (_driver, calls):
            return list(calls.methods())

    def _method(self, name):
        def serve(payload):
            with host_at(self.home) as (_driver, calls):
                return calls.methods()[name](payload)

        return serve

    def guests(self):
        with host_at(self.home) as (driver, _calls):
            return driver.states()

    def ports(self):
        return self.networks.load().ports

    def plug_all(self):
        for port in self.ports().values():
            if port["device_id"]:
                self.networks.update_port(port["id"], {"status": "ACTIVE"})

    def close_databases(self):
        self.service.db.close()
        self.placement.service.db.close()
