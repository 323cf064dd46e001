"""What image data is taken for, and what is refused."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.image.logic.formats import HEAD, inspect, refusal

SIZE = 1 << 20


def qcow2(version=3, backing=0, cluster_bits=16, virtual=1 << 30, crypt=0, l1=2, l1_at=0x30000, table=0x10000, clusters=1,
          snapshots=0, features=0, length=104, extensions=b"") -> bytes:  # fmt: skip
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, backing, 0, cluster_bits, virtual, crypt, l1, l1_at, table,
                       clusters, snapshots, 0)  # fmt: skip
    if version == 3:
        head += struct.pack(">QQQII", features, 0, 0, 4, length)
    return (head + extensions + bytes(16)).ljust(SIZE, b"\0")


def extension(kind, data=b""):
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def judge(declared, data):
    found = inspect(data[:HEAD], len(data))
    return refusal(declared, found), found


@pytest.mark.parametrize("version", [2, 3])
def test_an_ordinary_qcow2_is_accepted_with_its_size(version):
    reason, found = judge("qcow2", qcow2(version=version, extensions=extension(0x6803F857, b"names" * 3)))
    assert reason is None
    assert found.virtual_size == 1 << 30


@pytest.mark.parametrize(
    "changes",
    [
        {"backing": 0x200},
        {"features": 0b100},
        {"features": 0b10},
        {"features": 1 << 40},
        {"extensions": extension(0x44415441, b"/etc/passwd")},
        {"extensions": extension(0xE2792ACA, b"raw")},
        {"extensions": extension(0x12345678, b"x" * 70000)[:5000]},
        {"version": 1},
        {"version": 4},
        {"cluster_bits": 8},
        {"cluster_bits": 40},
        {"virtual": 1 << 62},
        {"virtual": 1 << 50, "l1": 1},
        {"l1": 1 << 31},
        {"l1_at": SIZE * 2},
        {"table": 0},
        {"clusters": 1 << 30},
        {"snapshots": 1 << 20},
        {"crypt": 1},
        {"length": 1 << 20},
        {"length": 100},
    ],
    ids=str,
)
def test_a_qcow2_that_is_not_self_contained_or_makes_no_sense_is_refused(changes):
    reason, found = judge("qcow2", qcow2(**changes))
    assert found.format == "qcow2"
    assert reason


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("qcow2", qcow2()),
        ("qed", b"QED\0"),
        ("luks", b"LUKS\xba\xbe"),
        ("vmdk", b"KDMV"),
        ("vmdk", b"# Disk DescriptorFile\n"),
        ("vdi", bytes(64) + b"\x7f\x10\xda\xbe"),
        ("vhd", b"conectix"),
        ("vhdx", b"vhdxfile"),
    ],
)
@pytest.mark.parametrize("declared", ["raw", "ami", "iso"])
def test_raw_data_that_is_something_else_is_refused(declared, name, data):
    for whole in (data, data.ljust(SIZE, b"\0")):
        reason, found = judge(declared, whole)
        assert found.format == name
        assert reason


def test_a_cd_image_is_an_iso_and_may_be_raw():
    data = (bytes(0x8001) + b"CD001").ljust(SIZE, b"\0")
    assert judge("iso", data)[0] is judge("raw", data)[0] is None
    assert judge("qcow2", data)[0] == "Image disk_format qcow2 does not match stream data iso"
    assert judge("iso", bytes(SIZE))[0] == "Image disk_format iso does not match stream data raw"


def test_a_vmdk_must_be_one_file():
    def vmdk(kind, extents="RW 2048 SPARSE \"self.vmdk\"\n"):
        text = f'# Disk DescriptorFile\ncreateType="{kind}"\n{extents}'.encode()
        head = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 2048, 128, 1, 20)
        return (head.ljust(512, b"\0") + text).ljust(SIZE, b"\0")

    reason, found = judge("vmdk", vmdk("streamOptimized"))
    assert (reason, found.virtual_size) == (None, 1 << 20)
    assert judge("vmdk", vmdk("monolithicFlat"))[0]
    assert judge("vmdk", vmdk("monolithicSparse", 'RW 2048 FLAT "/etc/passwd" 0\n'))[0]
    assert judge("vmdk", vmdk("monolithicSparse", 'RW 1 SPARSE "a"\nRW 1 SPARSE "b"\n'))[0]


@given(st.binary(max_size=600), st.sampled_from([b"QFI\xfb", b"KDMV", b"conectix", b""]), st.integers(0, 1 << 62))
def test_no_bytes_upset_the_inspector(data, magic, size):
    found = inspect(magic + data, size)
    refusal("raw", found)
    refusal("qcow2", found)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
@pytest.mark.parametrize("options", [[], ["-o", "compat=0.10"], ["-o", "cluster_size=2M"], ["-o", "extended_l2=on"]])
def test_what_qemu_makes_is_accepted(tmp_path, options):
    path = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, "3G"], check=True)
    reason, found = judge("qcow2", path.read_bytes())
    assert (reason, found.virtual_size) == (None, 3 << 30)
    backed = tmp_path / "backed"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", backed], check=True)
    assert "backing file" in str(judge("qcow2", backed.read_bytes())[0])
