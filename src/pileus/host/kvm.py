"""Whether KVM works here: found out by running a guest on it, because /dev/kvm also exists where no ordinary guest can run (nested software back ends).

The guest is one boot sector (`kvm_probe.s`) on the CPU model that real guests get; the answer is kept in a file until QEMU, kernel or device change.
"""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
from dataclasses import asdict, dataclass

from pileus.host.run import CommandError, CommandMissing, run

_SECTOR = bytes.fromhex(
    "fa31c08ed88ec08ed0bc0070bf0010b90018fcf3abc70600100320c70600200330c706003083000f0116d87c66b8200000000f22e066b8001000000f"
    "22d866b9800000c00f32660d000100000f300f20c0660d010000800f22c0ea5f7c080066b810008ed88ed0bc00700000b8b07c000066890425604000"
    "00c70425624000000800008e66c70425664000000000c7042568400000000000000f011c25de7c00000f20d80f22d831c00fa20f0bf4ebfd48830424"
    "02b010e6f4ebf20f1f440000000000000000000000000000009a200000000000009200001700c07c00007f000040"
)
_EXIT = 33
"""What `isa-debug-exit` makes of the guest's 0x10: (0x10 << 1) | 1."""
_SECONDS = 10.0
DEVICE = pathlib.Path("/dev/kvm")
QEMU = "qemu-system-x86_64"


@dataclass(frozen=True)
class KvmAnswer:
    """The verdict, and the sentence that explains it to an operator."""

    works: bool
    reason: str


def detect(cache: pathlib.Path) -> KvmAnswer:
    """The verdict for this host, from `cache` when nothing has changed since it was written."""
    key = _circumstances()
    try:
        kept = json.loads(cache.read_text())
        if kept.pop("key") == key:
            return KvmAnswer(**kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no answer yet, or one that an older release wrote
    answer = try_guest()
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = cache.with_name(cache.name + ".new")
    temporary.write_text(json.dumps({"key": key, **asdict(answer)}))
    temporary.chmod(0o600)
    temporary.replace(cache)
    return answer


def try_guest(accelerator: str = "kvm", model: str = "host") -> KvmAnswer:
    """Run the boot sector once on the accelerator."""
    if accelerator == "kvm" and not os.access(DEVICE, os.R_OK | os.W_OK):
        return KvmAnswer(False, f"{DEVICE} is not there or not accessible")
    with tempfile.NamedTemporaryFile(prefix="pileus-kvm-") as disk:
        disk.write(_SECTOR.ljust(510, b"\0") + b"\x55\xaa")
        disk.flush()
        argv = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-m", "16"]
        argv += ["-accel", accelerator, "-cpu", model, "-drive", f"file={disk.name},format=raw,if=ide,snapshot=on"]
        argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-no-reboot"]
        try:
            run(argv, timeout=_SECONDS, ok=(_EXIT,))
        except CommandMissing:
            return KvmAnswer(False, f"{QEMU} is not installed")
        except CommandError as error:
            said = error.stderr.strip().splitlines()[:1]
            return KvmAnswer(
                False, f"a test guest does not run on {accelerator}: {said[0] if said else 'it never answered'}"
            )
    return KvmAnswer(True, f"a test guest ran on {accelerator}")


def _circumstances() -> list[object]:
    """What the verdict depends on."""
    binary = next(
        (path for path in map(pathlib.Path, (f"/usr/bin/{QEMU}", f"/usr/local/bin/{QEMU}")) if path.exists()), None
    )
    return [
        os.uname().release,
        binary.stat().st_mtime_ns if binary else 0,
        [DEVICE.stat().st_rdev, DEVICE.stat().st_mode] if DEVICE.exists() else None,
    ]
