"""The world outside of compute in files, so that a killed process leaves there what it did."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import pathlib
import pickle
import socket
import threading

from pileus.compute.agent.calls import Calls
from pileus.compute.agent.epochs import EpochBook
from pileus.compute.drivers.fake import FakeDriver, FakeHost
from tests.api.compute.world import FakeImages, FakeNetworks, World

def size_of(name):
    return FakeHost(hostname=name, address="127.0.0.1", vcpus=100, memory_mb=100_000, local_gb=1000)


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
        if not name.startswith(("list_", "show_", "create_", "update_", "delete_", "activate_")):
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


class StoredCarrier:
    """Disks go from file to file: no listener would outlive a call here."""

    def __init__(self, driver, home):
        self.driver, self.home = driver, home

    def offer(self, server_id, token):
        return {"home": str(self.home), "token": token}

    def withdraw(self, server_id):
        pass

    def stop(self):
        pass

    @contextlib.contextmanager
    def ends(self, gangway, server_id, offer):
        gangway.make()
        path = gangway.directory / "guest"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(1)
            threading.Thread(target=self.welcome, args=(listener, pathlib.Path(offer["home"])), daemon=True).start()
            yield gangway.directory
        path.unlink(missing_ok=True)

    def welcome(self, listener, home):
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as stream:
                packed = stream.read(int(stream.readline()))
                with host_at(home) as (driver, _calls):
                    driver.arrive(packed)
                stream.write(b"welcome\n")

    def fetch(self, job, doc, offer):
        with host_at(pathlib.Path(offer["home"])) as (source, _calls):
            content = source.read_disk(doc.id, "disk", 0, 1 << 20)
        self.driver.write_disk(doc, "disk", len(content[1]), iter([content]))


@contextlib.contextmanager
def host_at(home):
    """The host as it is in its files now: every call finds a new agent process."""
    driver = FakeDriver(home, size_of(home.name), {}, {})
    driver.start(lambda server_id: None)
    calls = Calls(driver, EpochBook(home / "epochs.sqlite"), FakeImages(), lambda server_id: None)
    calls.ready.set()
    calls.moves.carrier = StoredCarrier(driver, home)
    try:
        yield driver, calls
        for job in list(calls.jobs._jobs.values()):
            assert job.done.wait(30)
    finally:
        calls.jobs.drop_all()
        calls.book.close()
        driver.stop()


class StoredWorld(World):
    """Hosts and networks in files, and compute's database where none is given. Ports are plugged as soon as they are looked at."""

    def __init__(self, folder, hosts=1, db_url=None):
        super().__init__(db_url=db_url or f"sqlite:///{folder}/compute.sqlite", hosts=hosts)
        self.homes = {name: folder / name for name in self.hosts}
        networks = StoredNetworks(folder / "networks.pickle")
        self.networks = networks
        self.service.clients.network = lambda context: networks
        for host, home in self.homes.items():
            with host_at(home) as (_driver, calls):
                names = list(calls.methods())
            self.bus.serve(f"agent.{host}", {name: self._method(home, name) for name in names})
        self.flavor()

    def _method(self, home, name):
        def serve(payload):
            while True:  # its jobs are at their end when a call is: a step need not wait for them
                with host_at(home) as (_driver, calls):
                    answer = calls.methods()[name](payload)
                if answer.get("state") not in {"fetching", "sending"}:
                    return answer

        return serve

    def guests(self, host="host1"):
        with host_at(self.homes[host]) as (driver, _calls):
            return driver.states()

    def write_inside(self, host, server_id, text):
        with host_at(self.homes[host]) as (driver, _calls):
            driver.write_inside(server_id, text)

    def read_inside(self, host, server_id):
        with host_at(self.homes[host]) as (driver, _calls):
            return driver.read_inside(server_id)

    def ports(self):
        return self.networks.load().ports

    def plug_all(self):
        for port in self.ports().values():
            if port["device_id"]:
                self.networks.update_port(port["id"], {"status": "ACTIVE"})

    def close_databases(self):
        self.service.db.close()
        self.placement.service.db.close()
