"""Tap devices: persistent, made and removed in the caller's network namespace by ioctl, without a child process.

A tap outlives the process that made it, so guests keep their network when an agent restarts. All functions are idempotent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import struct
from collections.abc import Iterator

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_SIOCGIFHWADDR, _SIOCSIFHWADDR = 0x8927, 0x8924
_IFF_UP = 0x1
_ARPHRD_ETHER = 1
_NAME_MAX = 15


class TapError(Exception):
    """The kernel refused; the text names the device and the reason."""


def exists(name: str) -> bool:
    """Whether a network device of this name is in the present namespace."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def ensure(name: str, *, guest_mac: str, mtu: int) -> None:
    """Make the tap `name`, up, with the MTU; whatever is right already is left alone.

    Its own MAC is the guest's with another first byte (fe, so that no bridge takes it for its own address). It gets no IPv6 address: the host must not
    be reachable through a guest's wire.
    """
    if len(name) > _NAME_MAX:
        raise TapError(f"The name of tap {name} is longer than {_NAME_MAX} characters.")
    with _failing(name, "made"):
        if not exists(name):
            with _attached(name) as descriptor:
                fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
            _without_ipv6(name)
        _configure(name, ("fa" if guest_mac.lower().startswith("fe") else "fe") + guest_mac[2:], mtu)


def remove(name: str) -> None:
    """Remove the tap; nothing happens when there is none."""
    if not exists(name):
        return
    with _failing(name, "removed"), _attached(name) as descriptor:
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 0)


@contextlib.contextmanager
def _attached(name: str) -> Iterator[int]:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
        yield descriptor
    finally:
        os.close(descriptor)


def _configure(name: str, mac: str, mtu: int) -> None:
    device, address = name.encode(), bytes.fromhex(mac.replace(":", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:

        def ask(request: int, form: str, *values: int | bytes) -> tuple[int | bytes, ...]:
            answer: bytes = fcntl.ioctl(control, request, struct.pack("16s" + form, device, *values))
            return struct.unpack("16s" + form, answer)[1:]

        if ask(_SIOCGIFHWADDR, "H6s8x", 0, b"")[1] != address:
            ask(_SIOCSIFHWADDR, "H6s8x", _ARPHRD_ETHER, address)
        if ask(_SIOCGIFMTU, "i12x", 0)[0] != mtu:
            ask(_SIOCSIFMTU, "i12x", mtu)
        (flags,) = ask(_SIOCGIFFLAGS, "H14x", 0)
        assert isinstance(flags, int)
        if not flags & _IFF_UP:
            ask(_SIOCSIFFLAGS, "H14x", flags | _IFF_UP)


def _without_ipv6(name: str) -> None:
    switch = pathlib.Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        switch.write_text("1")


@contextlib.contextmanager
def _failing(name: str, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        busy = " (a guest still uses it)" if error.errno == errno.EBUSY else ""
        raise TapError(f"Tap {name} cannot be {verb}: {error.strerror}{busy}.") from error
