"""Servers as QEMU guests under libvirt, on files below one home.

The driver keeps no state of its own in memory: what exists is asked of libvirt and read from the servers' directories, so that a new agent process takes
up exactly where the last one was killed.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from pileus.compute.drivers.base import (
    Action,
    Changed,
    DriverFailed,
    ImageSource,
    NotPrepared,
    ServerMissing,
    needed,
    tail,
)
from pileus.compute.drivers.domain_xml import Machine, name_of, render
from pileus.compute.drivers.host_facts import cpu_info, disk_space, memory, uptime
from pileus.compute.drivers.image_cache import CachedImage, ImageCache
from pileus.compute.drivers.instance_files import GIB, InstanceFiles
from pileus.compute.drivers.libvirt_moves import Moves, failing
from pileus.compute.wire import HostResources, ImageDoc, PowerState, ServerDoc
from pileus.host import kvm, libvirtd, taps
from pileus.host.libvirt import Hypervisor, NoDomain
from pileus.kernel import clock


@dataclass(frozen=True, kw_only=True)
class LibvirtSettings:
    """What an operator decides. Empty `uri`: the host's libvirtd, or our own where there is none. `virt_type` auto, kvm or qemu.

    `cpu_model` empty: the host's CPU under KVM, qemu64 under TCG. `host` is this host's name in the cloud, `address` how other hosts reach it.
    """

    host: str
    address: str
    uri: str = ""
    virt_type: str = "auto"
    cpu_model: str = ""
    tb_cache_mb: int = 64
    vnc_address: str = "127.0.0.1"
    image_keep_seconds: float = 86400.0


class LibvirtDriver(Moves):
    """See the module and `base.ComputeDriver`."""

    def __init__(self, home: pathlib.Path, settings: LibvirtSettings) -> None:
        self._home = home
        self._settings = settings
        self._instances = home / "instances"
        self._cache = ImageCache(home / "images" / "cache", settings.image_keep_seconds)
        self._own: pathlib.Path | None = None
        self._hypervisor = Hypervisor(settings.uri or libvirtd.HOST_URI)
        self._kvm = False
        self._group: int | None = None
        self._guest_user: tuple[int, int] | None = None
        self._disk_cache = "none"

    @property
    def address(self) -> str:
        return self._settings.address

    def start(self, changed: Changed) -> None:
        self._instances.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cache.start()
        with failing():
            if not self._settings.uri and not libvirtd.host_has_one():
                self._own = self._home / "libvirt"
            self._kvm = self._use_kvm()
            if self._own is not None:
                self._hypervisor = Hypervisor(libvirtd.ensure(self._own, kvm=self._kvm).uri)
            self._hypervisor.watch(changed)
            self._let_guests_in()
        self._disk_cache = "none" if _takes_direct_io(self._instances) else "writeback"

    def stop(self) -> None:
        self._hypervisor.close()

    def images_ready(self, doc: ServerDoc) -> bool:
        return all(self._cache.find(image_id) is not None for image_id in _image_ids(doc))

    def fetch_images(self, doc: ServerDoc, source: ImageSource) -> None:
        if doc.image is None:
            return
        for image_id in _image_ids(doc):
            if self._cache.find(image_id) is None:
                self._cache.fetch(doc.image if image_id == doc.image.id else _shown(image_id, source), source)

    def prepare(self, doc: ServerDoc) -> None:
        image = None if doc.image is None else self._cached(doc.image.id)
        self._files(doc.id).make(doc, image)

    def create(self, doc: ServerDoc) -> None:
        files = self._files(doc.id)
        if not files.complete():
            raise NotPrepared(f"Server {doc.id} has no disks on this host.")
        if self.state(doc.id) in {"missing", "shutdown", "crashed"}:
            files.keep(doc)
            with failing():
                self._define(doc)
                self._hypervisor.start(doc.id, paused=True)

    def unfreeze(self, server_id: str) -> None:
        self.power(server_id, "unpause")

    def destroy(self, server_id: str, *, keep_disks: bool = False) -> None:
        files = self._files(server_id)
        doc = files.document()
        names = {nic.tap for nic in doc.nics} if doc else set()
        with failing():
            with contextlib.suppress(NoDomain):
                names |= self._taps_of(server_id)
                self._hypervisor.kill(server_id)
                self._hypervisor.undefine(server_id)
            self._unplug(names)
        self._close_gangway(server_id)
        if not keep_disks:
            files.remove()
            self._forget_logs(server_id)

    def power(self, server_id: str, action: Action, doc: ServerDoc | None = None) -> None:
        state = self.state(server_id)
        if not needed(server_id, action, state):
            return
        hypervisor = self._hypervisor
        with failing():
            match action:
                case "start":
                    self._boot(server_id, doc)
                case "reboot_hard":
                    hypervisor.kill(server_id)
                    hypervisor.discard_save(server_id)
                    self._boot(server_id, doc)
                case "stop":
                    hypervisor.kill(server_id)
                    hypervisor.discard_save(server_id)
                case "press_power_button":
                    hypervisor.press_power_button(server_id)
                case "pause":
                    hypervisor.pause(server_id)
                case "unpause":
                    hypervisor.unpause(server_id)
                case "suspend":
                    hypervisor.save(server_id)
                case "resume":
                    self._plug(self._files(server_id).document())
                    hypervisor.start(server_id)

    def state(self, server_id: str) -> PowerState:
        with failing():
            try:
                return self._hypervisor.power(server_id)
            except NoDomain:
                return "missing"

    def states(self) -> dict[str, PowerState]:
        found: dict[str, PowerState] = {}
        for entry in self._instances.iterdir():
            found[entry.name] = "missing"
        with failing():
            found.update(self._hypervisor.marked(str(self._home)))
        return found

    def document(self, server_id: str) -> ServerDoc | None:
        return self._files(server_id).document()

    def console(self, server_id: str, lines: int | None) -> str:
        if self.state(server_id) == "missing":
            raise ServerMissing(f"Server {server_id} is not on this host.")
        return tail(self._files(server_id).console(), lines)

    def resources(self) -> HostResources:
        with failing():
            _, version, cpus, memory_mb = self._hypervisor.facts()
            capabilities = self._hypervisor.capabilities()
            running = sum(1 for state in self._hypervisor.marked(str(self._home)).values() if state != "shutdown")
        total, free = disk_space(self._instances)
        promised = sum(files.unwritten(doc) for files, doc in self._all_files())
        return HostResources(
            hypervisor_hostname=self._settings.host,
            hypervisor_type="QEMU",
            hypervisor_version=version,
            vcpus=cpus,
            memory_mb=memory_mb,
            local_gb=total // GIB,
            host_ip=self._settings.address,
            cpu_info=cpu_info(capabilities),
            memory_mb_used=memory_mb - memory()[1],
            local_gb_used=(total - free) // GIB,
            disk_available_least=(free - promised) // GIB,
            running_vms=running,
            uptime=uptime(),
        )

    def watch(self) -> None:
        with failing():
            if self._own is not None:
                libvirtd.ensure(self._own, kvm=self._kvm)
            self._hypervisor.connect()

    def tidy(self) -> None:
        self._cache.tidy({image_id for _, doc in self._all_files() for image_id in _image_ids(doc)})

    def halt(self, seconds: float) -> None:
        if not self._instances.exists():
            return
        self.start(lambda _server_id: None)
        running = [server_id for server_id, state in self.states().items() if state == "running"]
        for server_id in running:
            self.power(server_id, "press_power_button")
        deadline = clock.monotonic() + seconds
        while any(self.state(server_id) == "running" for server_id in running) and clock.monotonic() < deadline:
            clock.sleep(0.2)
        with failing():
            for server_id, state in self.states().items():
                if state != "missing":
                    names = self._taps_of(server_id)
                    self._hypervisor.kill(server_id)
                    self._unplug(names)
        self._let_go()

    def remove_everything(self) -> None:
        if not self._instances.exists():
            return
        self.start(lambda _server_id: None)
        for server_id in self.states():
            self.destroy(server_id)
        self._let_go()

    # inside

    def _vnc_address(self) -> str:
        return self._settings.vnc_address

    def _let_go(self) -> None:
        """Disconnect, and end the daemons if they are ours."""
        self.stop()
        if self._own is not None:
            libvirtd.stop(self._own)

    def _boot(self, server_id: str, doc: ServerDoc | None) -> None:
        """Start a guest that is off, from the newest document there is."""
        files = self._files(server_id)
        if doc is not None and files.complete():
            files.keep(doc)
        newest = doc or files.document()
        if newest is not None:
            self._define(newest)
        self._hypervisor.start(server_id)

    def _define(self, doc: ServerDoc) -> None:
        files = self._files(doc.id)
        properties = doc.image.properties if doc.image else {}
        kernel, ramdisk = (properties.get(name) or None for name in ("kernel_id", "ramdisk_id"))
        machine = Machine(
            mark=str(self._home),
            kvm=self._kvm,
            cpu_model=self._settings.cpu_model or ("host" if self._kvm else "qemu64"),
            tb_cache_mb=self._settings.tb_cache_mb,
            vnc_address=self._settings.vnc_address,
            disk_cache=self._disk_cache,
            disks=files.disks(),
            console_log=files.console_log,
            config_drive=files.config if doc.config_drive else None,
            kernel=self._cached(kernel).path if kernel else None,
            ramdisk=self._cached(ramdisk).path if kernel and ramdisk else None,
        )
        xml = render(doc, machine)
        self._plug(doc)
        self._hypervisor.define(xml)

    def _plug(self, doc: ServerDoc | None) -> None:
        for nic in doc.nics if doc else ():
            taps.ensure(nic.tap, guest_mac=nic.mac, mtu=nic.mtu)

    def _unplug(self, names: set[str]) -> None:
        for name in names:
            taps.remove(name)

    def _forget_logs(self, server_id: str) -> None:
        """Remove what libvirt logged about QEMU's starts for the server."""
        logs = self._own / "log" if self._own is not None else pathlib.Path("/var/log/libvirt")
        for path in (logs / "qemu").glob(f"{name_of(server_id)}.log*"):
            path.unlink(missing_ok=True)

    def _taps_of(self, server_id: str) -> set[str]:
        interfaces = self._hypervisor.description(server_id).findall("./devices/interface/target")
        return {target.get("dev", "") for target in interfaces}

    def _cached(self, image_id: str) -> CachedImage:
        found = self._cache.find(image_id)
        if found is None:
            raise NotPrepared(f"Image {image_id} is not on this host.")
        return found

    def _files(self, server_id: str) -> InstanceFiles:
        return InstanceFiles(self._instances, str(uuid.UUID(server_id)), self._group)

    def _all_files(self) -> Iterator[tuple[InstanceFiles, ServerDoc]]:
        for entry in self._instances.iterdir():
            files = InstanceFiles(self._instances, entry.name, self._group)
            doc = files.document()
            if doc is not None:
                yield files, doc

    def _use_kvm(self) -> bool:
        if self._settings.virt_type == "qemu":
            return False
        answer = kvm.detect(self._home / "kvm.json")
        if answer.works and self._own is not None and not libvirtd.may_use_kvm(self._own):
            answer = kvm.KvmAnswer(False, f"user {libvirtd.GUEST_USER} may not open {kvm.DEVICE}: give it to group kvm")
        if self._settings.virt_type == "kvm" and not answer.works:
            raise DriverFailed(f"virt_type is kvm, but {answer.reason}.")
        return answer.works

    def _let_guests_in(self) -> None:
        """Let the user that libvirt runs guests as pass through our directories to their disks: by group, nobody else."""
        for model in self._hypervisor.capabilities().findall("./host/secmodel"):
            label = model.findtext("./baselabel[@type='qemu']", "")
            if model.findtext("model") == "dac" and label:
                user, group = (int(part.lstrip("+")) for part in label.split(":"))
                if user == 0:
                    return
                self._group, self._guest_user = group, (user, group)
        if self._group is None:
            return
        for directory in (self._home, self._instances, self._home / "images", self._home / "images" / "cache"):
            os.chown(directory, -1, self._group)
            directory.chmod(0o710)


def _image_ids(doc: ServerDoc) -> list[str]:
    """The root image, then kernel and ramdisk if it names them."""
    if doc.image is None:
        return []
    named = (doc.image.properties.get(name) for name in ("kernel_id", "ramdisk_id"))
    return [doc.image.id, *(str(image_id) for image_id in named if image_id)]


def _shown(image_id: str, source: ImageSource) -> ImageDoc:
    """An image that the root image refers to, as the image service describes it."""
    shown = source.show(image_id)
    return ImageDoc(
        id=image_id,
        disk_format=str(shown["disk_format"]),
        size=int(shown["size"]),
        checksum=shown.get("checksum"),
        os_hash_algo=shown.get("os_hash_algo"),
        os_hash_value=shown.get("os_hash_value"),
    )


def _takes_direct_io(directory: pathlib.Path) -> bool:
    """Whether files there can be opened past the page cache; not every file system can."""
    probe = directory / ".direct-io"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True
