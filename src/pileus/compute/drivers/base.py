"""The contract of a hypervisor driver, its errors (their class names travel over the bus), and what every driver shares.

A driver runs on one host inside the compute agent. All methods block, may be called from several threads at once for different servers (the agent
serializes the calls of one server) and are idempotent: repeating one that has succeeded changes nothing and succeeds.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pileus.compute.wire import HostResources, PowerState, ServerDoc
from pileus.kernel.errors import Conflict, Internal, Invalid, NotFound, Unavailable

Action = Literal["start", "stop", "press_power_button", "reboot_hard", "pause", "unpause", "suspend", "resume"]
Changed = Callable[[str], None]
"""Called with a server id when its power state may have changed by itself; from a thread of the driver, must not block."""

CONSOLE_BYTES = 102400
"""How much of the end of a console log is ever read."""


class DriverFailed(Internal):
    """The hypervisor or a tool of the host failed; the text says what and why."""


class HypervisorLost(Unavailable):
    """The hypervisor's service does not answer now. Calls are idempotent: once `watch` has succeeded they can be repeated."""


class NotPrepared(Conflict):
    """The disks of the server are not there yet."""


class ServerMissing(NotFound):
    """The host does not have the server."""


class BadState(Conflict):
    """The present power state does not allow the action."""


class ImageRefused(Invalid):
    """The image cannot be used: wrong checksum, wrong format, too large for the flavor, refers to other files."""


class ImageSource(Protocol):
    """Where images come from: the image service as the agent reaches it."""

    def show(self, image_id: str) -> Mapping[str, Any]:
        """The image's record, in the image API's names."""
        ...

    def download(self, image_id: str) -> Iterator[bytes]:
        """The image's data, in pieces."""
        ...


@dataclass(frozen=True)
class Gangway:
    """How a running guest leaves and enters a host: sockets that both hypervisors know by name.

    On the source they lie in `directory` under their names; on the destination `sockets` says where what came through each goes. `owner` is the user and
    group of guests' processes, None where they run as we do.
    """

    directory: pathlib.Path
    sockets: Mapping[str, pathlib.Path]
    owner: tuple[int, int] | None = None

    def make(self) -> None:
        """The directory of the sockets, for the guests' user alone."""
        self.directory.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.directory.parent.chmod(0o711)  # whatever the umask: that user passes through
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if self.owner is not None:
            os.chown(self.directory, *self.owner)


class ComputeDriver(Protocol):
    """What a hypervisor offers to the agent."""

    @property
    def address(self) -> str:
        """How other hosts reach this one."""
        ...

    def start(self, changed: Changed) -> None:
        """Connect and take up the servers that are there already."""
        ...

    def stop(self) -> None:
        """Disconnect; servers keep running."""
        ...

    def images_ready(self, doc: ServerDoc) -> bool:
        """Whether `prepare` can go ahead without a download."""
        ...

    def fetch_images(self, doc: ServerDoc, source: ImageSource) -> None:
        """Download and check what the server boots from. Slow; raises ImageRefused for what can never work."""
        ...

    def prepare(self, doc: ServerDoc) -> None:
        """Make the server's directory, disks and config drive. Existing disks are kept as they are."""
        ...

    def create(self, doc: ServerDoc) -> None:
        """Make the network devices and the guest, and start it paused. NotPrepared without disks; an existing guest is left alone."""
        ...

    def unfreeze(self, server_id: str) -> None:
        """Let a guest run that `create` started paused."""
        ...

    def destroy(self, server_id: str, *, keep_disks: bool = False) -> None:
        """Remove the guest and everything that belongs to it, a kept copy too; with `keep_disks` the directory stays. Succeeds when nothing is there."""
        ...

    def power(self, server_id: str, action: Action, doc: ServerDoc | None = None) -> None:
        """Do one power action (see `needed`). With `doc` a `start` or `reboot_hard` also takes over what changed in the document."""
        ...

    def state(self, server_id: str) -> PowerState:
        """The power state, "missing" when the host does not have the server."""
        ...

    def states(self) -> dict[str, PowerState]:
        """Power states of all servers of this installation on the host; "missing" for those that have files here and no guest."""
        ...

    def document(self, server_id: str) -> ServerDoc | None:
        """The document the server was last made from, None when the host has none."""
        ...

    def disks(self, server_id: str) -> dict[str, int]:
        """Name -> bytes of the disk files of a server whose guest does not run. ServerMissing when it has none here."""
        ...

    def read_disk(self, server_id: str, name: str, offset: int, most: int) -> tuple[int, bytes]:
        """The next bytes of a disk file at or after `offset`, at most so many, and where they stand: holes are passed over. b"" at the end."""
        ...

    def write_disk(self, doc: ServerDoc, name: str, size: int, pieces: Iterator[tuple[int, bytes]]) -> None:
        """Make a disk file of the server out of pieces as `read_disk` gives them; it counts only once it is whole. The image must be here."""
        ...

    def gangway(self, server_id: str) -> Gangway:
        """The sockets through which this server comes or goes."""
        ...

    def receive(self, doc: ServerDoc) -> dict[str, Any]:
        """Make what a running guest needs when it comes, its disks being prepared: network devices. What `send` must know of this host."""
        ...

    def send(self, server_id: str, there: Mapping[str, Any]) -> None:
        """Let the guest go to the host that said `there`, while it runs; its files stay. Slow. DriverFailed: it runs on here as if nothing had been.

        The sockets of its gangway lead there. Succeeds at once when the guest has left already.
        """
        ...

    def sending(self, server_id: str) -> dict[str, int]:
        """How far `send` is: bytes of memory and disk, in the API's names; {} when nothing is sent."""
        ...

    def abort_send(self, server_id: str) -> None:
        """Let a `send` that goes on fail. Nothing happens when none goes on."""
        ...

    def hurry_send(self, server_id: str) -> None:
        """Let the guest pause until it is there, so that a `send` comes to its end. Nothing happens when none goes on."""
        ...

    def keep_copy(self, server_id: str) -> None:
        """Keep the disks of a server that has no guest now as they are, beside those that will be changed. One that is kept already stays."""
        ...

    def restore_copy(self, server_id: str) -> None:
        """Remove the guest and put the disks that were kept in the place of the present ones. Nothing happens when none were kept."""
        ...

    def drop_copy(self, server_id: str) -> None:
        """Remove the disks that were kept. Nothing happens when there are none."""
        ...

    def console(self, server_id: str, lines: int | None) -> str:
        """The last lines of what the guest wrote to its serial console; None = all that is kept. ServerMissing when it is not here."""
        ...

    def resources(self) -> HostResources:
        """What the host has and how much of it is in use."""
        ...

    def watch(self) -> None:
        """Called every few seconds: restart helpers of the hypervisor that died, reconnect."""
        ...

    def tidy(self) -> None:
        """Called every few minutes: remove what nobody needs any more, such as old cached images."""
        ...

    def halt(self, seconds: float) -> None:
        """End all guests and the driver's helpers, keep their files; guests get that long to shut down by themselves. Called instead of `start`."""
        ...

    def remove_everything(self) -> None:
        """Remove all servers and every other trace of the driver on the host. Called instead of `start`."""
        ...


_DO: Mapping[Action, frozenset[PowerState]] = {
    "start": frozenset({"shutdown", "crashed"}),
    "stop": frozenset({"running", "paused", "crashed", "suspended"}),
    "press_power_button": frozenset({"running"}),
    "reboot_hard": frozenset({"running", "paused", "crashed", "shutdown", "suspended"}),
    "pause": frozenset({"running"}),
    "unpause": frozenset({"paused"}),
    "suspend": frozenset({"running", "paused"}),
    "resume": frozenset({"suspended"}),
}
_DONE: Mapping[Action, frozenset[PowerState]] = {
    "start": frozenset({"running"}),
    "stop": frozenset({"shutdown"}),
    "press_power_button": frozenset({"shutdown", "crashed"}),
    "reboot_hard": frozenset(),
    "pause": frozenset({"paused"}),
    "unpause": frozenset({"running"}),
    "suspend": frozenset({"suspended"}),
    "resume": frozenset({"running"}),
}


def needed(server_id: str, action: Action, state: PowerState) -> bool:
    """Whether the action has anything to do in this state; ServerMissing or BadState when it is not legal there."""
    if state == "missing":
        raise ServerMissing(f"Server {server_id} is not on this host.")
    if state in _DONE[action]:
        return False
    if state not in _DO[action]:
        raise BadState(f"Server {server_id} cannot do '{action}' while it is {state}.")
    return True


def tail(text: str, lines: int | None) -> str:
    """The last `lines` lines of a text, all of it for None."""
    if lines is None:
        return text
    if lines <= 0:
        return ""
    return "\n".join(text.split("\n")[-lines - 1 :] if text.endswith("\n") else text.split("\n")[-lines:])
