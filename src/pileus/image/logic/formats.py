"""What image data really is: told from its first bytes, never from what its owner says.

A guest image is opened by programs that follow what stands in its header: a qcow2 file may name another file of the host as its backing file, and
a "raw" image that begins like qcow2 may be opened as such by whoever guesses. So the format must be the declared one, and headers that point outside
the file, that ask for features nobody knows, or that make no sense are refused. Offsets and magics are those of the published formats.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

HEAD = 256 * 1024
"""How many bytes of the beginning are looked at."""

RAW_LIKE = frozenset({"raw", "ami", "ari", "aki"})
_KNOWN_FEATURES = 0b11111  # dirty, corrupt, external data file, compression type, extended L2 entries
_CORRUPT, _DATA_FILE = 0b10, 0b100
_BACKING_FORMAT, _DATA_FILE_NAME = 0xE2792ACA, 0x44415441
_MAX_L1_BYTES = 32 << 20
_VMDK_TYPES = frozenset({"monolithicSparse", "streamOptimized"})


@dataclass(frozen=True)
class Found:
    """`format` by glance's names, plus `luks` and `qed`; `virtual_size` in bytes where the header tells; `problems` are reasons to refuse it."""

    format: str
    virtual_size: int | None = None
    problems: tuple[str, ...] = field(default=())


def inspect(head: bytes, size: int) -> Found:
    """What the data is, from its first HEAD bytes (all of it, if shorter) and its length."""
    for magic, offset, reader in _SIGNATURES:
        if head[offset : offset + len(magic)] == magic:
            return reader(head, size)
    if head[0x8001:0x8006] == b"CD001":
        return Found("iso", size)
    return Found("raw", size)


def refusal(declared: str, found: Found) -> str | None:
    """Why data of this kind may not be the data of an image of the declared format; None when it may."""
    if found.problems:
        return f"The {found.format} data cannot be used: {'; '.join(found.problems)}"
    allowed = {declared}
    if declared in RAW_LIKE:
        # A CD image is read as a raw disk without anything in it being followed.
        allowed = {"raw", "iso"}
    if found.format in allowed:
        return None
    return f"Image disk_format {declared} does not match stream data {found.format}"


def _qcow2(head: bytes, size: int) -> Found:
    if len(head) < 72:
        return Found("qcow2", None, ("its header is cut off",))
    (
        version,
        backing_offset,
        _backing_size,
        cluster_bits,
        virtual,
        crypt,
        l1_size,
        l1_offset,
        table,
        clusters,
        snapshots,
    ) = struct.unpack_from(">IQIIQIIQQII", head, 4)
    problems: list[str] = []
    if version not in {2, 3}:
        return Found("qcow2", None, (f"its version is {version}",))
    if backing_offset:
        problems.append("it has a backing file")
    if crypt:
        problems.append("it is encrypted")
    if not 9 <= cluster_bits <= 21:
        return Found("qcow2", None, (*problems, f"its clusters have 2^{cluster_bits} bytes"))
    cluster = 1 << cluster_bits
    needed = -(-virtual // (cluster * (cluster // 8)))
    if virtual >= 1 << 62 or l1_size < needed or l1_size * 8 > _MAX_L1_BYTES:
        problems.append("its size and its tables do not fit together")
    elif (virtual and not 0 < l1_offset < size) or not 0 < table < size or not 0 < clusters * cluster <= size + cluster:
        problems.append("its tables are not inside the file")
    if snapshots > 65536:
        problems.append("it has too many snapshots")
    length = 72
    if version == 3:
        problems += _qcow2_features(head, cluster)
        length = struct.unpack_from(">I", head, 100)[0] if len(head) >= 104 else 104
    problems += _qcow2_extensions(head, length, min(cluster, backing_offset or cluster))
    return Found("qcow2", virtual, tuple(problems))


def _qcow2_features(head: bytes, cluster: int) -> list[str]:
    if len(head) < 104:
        return ["its header is cut off"]
    features, length = struct.unpack_from(">Q", head, 72)[0], struct.unpack_from(">I", head, 100)[0]
    problems = []
    if features & _DATA_FILE:
        problems.append("it has an external data file")
    if features & _CORRUPT:
        problems.append("it is marked as corrupt")
    if features & ~_KNOWN_FEATURES:
        problems.append(f"it needs unknown features ({features & ~_KNOWN_FEATURES:#x})")
    if not 104 <= length <= cluster or length % 8:
        problems.append(f"its header says it has {length} bytes")
    return problems


def _qcow2_extensions(head: bytes, start: int, end: int) -> list[str]:
    """Problems in the header extensions, which stand between the header and the end of the first cluster."""
    position = start
    while position + 8 <= min(end, len(head)):
        kind, length = struct.unpack_from(">II", head, position)
        if kind == 0:
            return []
        if kind == _DATA_FILE_NAME:
            return ["it names an external data file"]
        if kind == _BACKING_FORMAT:
            return ["it names the format of a backing file"]
        if position + 8 + length > end:
            return ["its header extensions do not end"]
        position += 8 + -(-length // 8) * 8
    return []


def _qed(_head: bytes, _size: int) -> Found:
    return Found("qed", None, ("the format is not supported",))


def _luks(_head: bytes, size: int) -> Found:
    return Found("luks", size)


def _vmdk(head: bytes, _size: int) -> Found:
    if len(head) < 512:
        return Found("vmdk", None, ("its header is cut off",))
    version, _flags, capacity = struct.unpack_from("<IIQ", head, 4)
    descriptor_at, descriptor_sectors = struct.unpack_from("<QQ", head, 28)
    if version not in {1, 2, 3}:
        return Found("vmdk", None, (f"its version is {version}",))
    start = descriptor_at * 512
    text = head[start : start + min(descriptor_sectors, 128) * 512].split(b"\0", 1)[0].decode("latin-1")
    kind = re.search(r'createType\s*=\s*"([^"]*)"', text)
    if not kind or kind.group(1) not in _VMDK_TYPES:
        return Found("vmdk", capacity * 512, (f"its type is {kind.group(1) if kind else 'unknown'}",))
    extents = re.findall(r"^(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\S+)", text, re.MULTILINE)
    if any(extent != "SPARSE" for extent in extents) or len(extents) > 1:
        return Found("vmdk", capacity * 512, ("it consists of several files",))
    return Found("vmdk", capacity * 512)


def _vmdk_text(_head: bytes, _size: int) -> Found:
    return Found("vmdk", None, ("it is only a description that names other files",))


def _vdi(head: bytes, _size: int) -> Found:
    if len(head) < 376:
        return Found("vdi", None, ("its header is cut off",))
    return Found("vdi", struct.unpack_from("<Q", head, 368)[0])


def _vhd(head: bytes, _size: int) -> Found:
    if len(head) < 512:
        return Found("vhd", None, ("its header is cut off",))
    kind = struct.unpack_from(">I", head, 60)[0]
    problems = ("it is the difference to another disk",) if kind == 4 else ()
    return Found("vhd", struct.unpack_from(">Q", head, 48)[0], problems)


def _vhdx(_head: bytes, _size: int) -> Found:
    return Found("vhdx")


_SIGNATURES = (
    (b"QFI\xfb", 0, _qcow2),
    (b"QED\0", 0, _qed),
    (b"LUKS\xba\xbe", 0, _luks),
    (b"KDMV", 0, _vmdk),
    (b"# Disk DescriptorFile", 0, _vmdk_text),
    (b"\x7f\x10\xda\xbe", 0x40, _vdi),
    (b"conectix", 0, _vhd),
    (b"vhdxfile", 0, _vhdx),
)
