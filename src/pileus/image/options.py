"""Options of the image service: section `[image]`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pileus.kernel.config import Doc


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    store_driver: Annotated[
        Literal["file", "fake"], Doc("Where image data is kept: files below PILEUS_HOME, or memory (for tests).")
    ] = "file"
    store_id: Annotated[str, Doc("Name of the store, as the API shows it.")] = "file"
    store_directory: Annotated[str, Doc('Folder of the image files; "" for PILEUS_HOME/images.')] = ""
    image_size_cap: Annotated[int, Doc("Most bytes one image may have.")] = 1 << 40
    image_property_quota: Annotated[int, Doc("Most additional properties of one image; -1 for any number.")] = 128
    image_tag_quota: Annotated[int, Doc("Most tags of one image; -1 for any number.")] = 128
    image_member_quota: Annotated[int, Doc("Most members of one image; -1 for any number.")] = 128
    image_count_total: Annotated[int, Doc("Most images a project may own; -1 for any number.")] = -1
    image_count_uploading: Annotated[int, Doc("Most uploads of a project at once; -1 for any number.")] = -1
    image_size_total: Annotated[int, Doc("Most MiB of active images a project may own; -1 for any amount.")] = -1
    image_stage_total: Annotated[int, Doc("Most MiB of staged images a project may have; -1 for any amount.")] = -1
    hashing_algorithm: Annotated[
        Literal["sha256", "sha384", "sha512", "blake2b"], Doc("Algorithm of `os_hash_value` for new uploads.")
    ] = "sha512"
    disk_formats: Annotated[list[str], Doc("Disk formats that images may have.")] = msgspec.field(
        default_factory=lambda: ["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso"]
    )
    require_image_format_match: Annotated[
        bool, Doc("Refuse data that is in another format than the image's disk_format says.")
    ] = True
    container_formats: Annotated[list[str], Doc("Container formats that images may have.")] = msgspec.field(
        default_factory=lambda: ["ami", "ari", "aki", "bare"]
    )
    default_page: Annotated[int, Doc("Images on a page when the caller does not say.")] = 25
    max_page: Annotated[int, Doc("Most images on a page.")] = 1000
