"""Request schemas of servers, by microversion."""

from __future__ import annotations

from typing import Any

from pileus.compute.api import schemas as s

_IMAGE = {
    "type": "string",
    "pattern": r"^$|^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$",
}
IMAGE_REF = {"type": "string", "format": "uuid"}
_FLAVOR = {"type": ["string", "integer"], "minLength": 1}
_NIC = {
    "fixed_ip": {"type": ["string", "null"], "anyOf": [{"type": "null"}, {"format": "ipv4"}, {"format": "ipv6"}]},
    "port": {"anyOf": [{"type": "null"}, s.UUID]},
    "uuid": s.UUID,
}
_BDM = {"type": "array", "items": {"type": "object"}}
_HINT_IDS = {"anyOf": [s.UUID, {"type": "array", "items": s.UUID, "minItems": 1}]}
HINTS = {
    "type": "object",
    "properties": {
        "group": s.UUID,
        "different_host": _HINT_IDS,
        "same_host": _HINT_IDS,
        "query": {"type": ["string", "object", "array"]},
        "target_cell": {"type": "string", "minLength": 1},
        "different_cell": {"type": ["string", "array"]},
        "build_near_host_ip": {"type": "string"},
        "cidr": {"type": "string", "pattern": r"^/[0-9a-f.:]+$"},
    },
    "additionalProperties": True,
}
_USER_DATA = {"type": "string", "format": "base64", "maxLength": 65535}
PERSONALITY = {
    "type": "array",
    "items": s.obj({"path": s.ANY_TEXT, "contents": {"type": "string", "format": "base64"}}, ["path", "contents"]),
}
_CERTIFICATES = {
    "type": ["array", "null"],
    "minItems": 1,
    "maxItems": 50,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}
TAGS = {"type": "array", "items": s.TAG, "maxItems": 50}
_FQDN = {**s.HOSTNAME, "pattern": r"^[a-zA-Z0-9-.]*$"}
_HOSTNAME = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": r"^[a-zA-Z0-9-]*$"}

_BASE: dict[str, Any] = {
    "name": s.NAME,
    "imageRef": _IMAGE,
    "flavorRef": _FLAVOR,
    "adminPass": s.ANY_TEXT,
    "metadata": s.METADATA,
    "networks": {"type": "array", "items": s.obj(_NIC)},
    "OS-DCF:diskConfig": s.DISK_CONFIG,
    "accessIPv4": {"anyOf": [s.IP4, {"enum": [""]}]},
    "accessIPv6": {"anyOf": [s.IP6, {"enum": [""]}]},
    "personality": PERSONALITY,
    "availability_zone": s.NAME,
    "block_device_mapping": _BDM,
    "block_device_mapping_v2": _BDM,
    "config_drive": s.BOOLEAN,
    "key_name": {"type": "string", "minLength": 1, "maxLength": 255},
    "min_count": s.text_or_integer(1),
    "max_count": s.text_or_integer(1),
    "return_reservation_id": s.BOOLEAN,
    "security_groups": {
        "type": "array",
        "items": s.obj({"name": {"type": "string", "minLength": 1, "maxLength": 255}}),
    },
    "user_data": {"anyOf": [_USER_DATA, {"type": "null"}]},
}


def _create(properties: dict[str, Any], required: list[str]) -> s.Schema:
    return s.obj(
        {
            "server": s.obj(properties, required),
            "os:scheduler_hints": HINTS,
            "OS-SCH-HNT:scheduler_hints": HINTS,
        },
        ["server"],
    )


def _networks(tagged: bool) -> s.Schema:
    nic = s.obj({**_NIC, "tag": s.TAG} if tagged else _NIC)
    return {"anyOf": [{"type": "array", "items": nic}, {"enum": ["none", "auto"]}]}


def _creates() -> list[tuple[str, s.Schema | None]]:
    """Every version of the body adds to, or takes from, the one before."""
    required = ["name", "flavorRef"]
    steps: list[tuple[str, s.Schema | None]] = [("2.1", _create(_BASE, required))]
    now = {**_BASE, "description": s.DESCRIPTION}
    steps.append(("2.19", _create(now, required)))
    tagged = {"type": "array", "items": s.obj({**_NIC, "tag": s.TAG})}
    steps.append(("2.32", _create({**now, "networks": tagged}, required)))
    steps.append(("2.33", _create(now, required)))
    required = [*required, "networks"]
    now = {**now, "networks": _networks(tagged=False)}
    steps.append(("2.37", _create(now, required)))
    now = {**now, "networks": _networks(tagged=True)}
    steps.append(("2.42", _create(now, required)))
    now = {**now, "tags": TAGS}
    steps.append(("2.52", _create(now, required)))
    now = {name: schema for name, schema in now.items() if name != "personality"}
    steps.append(("2.57", _create(now, required)))
    now = {**now, "trusted_image_certificates": _CERTIFICATES}
    steps.append(("2.63", _create(now, required)))
    now = {**now, "host": s.HOSTNAME, "hypervisor_hostname": s.HOSTNAME}
    steps.append(("2.74", _create(now, required)))
    now = {**now, "hostname": _HOSTNAME}
    steps.append(("2.90", _create(now, required)))
    now = {**now, "hostname": _FQDN}
    steps.append(("2.94", _create(now, required)))
    return steps


CREATE = _creates()

_UPDATE: dict[str, Any] = {
    "name": s.NAME,
    "OS-DCF:diskConfig": s.DISK_CONFIG,
    "accessIPv4": {"anyOf": [s.IP4, {"enum": ["", None]}]},
    "accessIPv6": {"anyOf": [s.IP6, {"enum": ["", None]}]},
}
UPDATE = [
    ("2.1", s.wrap("server", s.obj(_UPDATE))),
    ("2.19", s.wrap("server", s.obj({**_UPDATE, "description": s.DESCRIPTION}))),
    ("2.90", s.wrap("server", s.obj({**_UPDATE, "description": s.DESCRIPTION, "hostname": _HOSTNAME}))),
    ("2.94", s.wrap("server", s.obj({**_UPDATE, "description": s.DESCRIPTION, "hostname": _FQDN}))),
]

_REBUILD: dict[str, Any] = {
    "name": s.NAME,
    "imageRef": IMAGE_REF,
    "adminPass": s.ANY_TEXT,
    "metadata": s.METADATA,
    "preserve_ephemeral": s.BOOLEAN,
    "OS-DCF:diskConfig": s.DISK_CONFIG,
    "accessIPv4": s.IP4,
    "accessIPv6": s.IP6,
    "personality": PERSONALITY,
}


def _rebuilds() -> list[tuple[str, s.Schema | None]]:
    def body(properties: dict[str, Any]) -> s.Schema:
        return s.wrap("rebuild", s.obj(properties, ["imageRef"]))

    now = dict(_REBUILD)
    steps: list[tuple[str, s.Schema | None]] = [("2.1", body(now))]
    now = {**now, "description": s.DESCRIPTION}
    steps.append(("2.19", body(now)))
    now = {**now, "key_name": {"anyOf": [{"type": "null"}, _BASE["key_name"]]}}
    steps.append(("2.54", body(now)))
    now = {name: schema for name, schema in now.items() if name != "personality"}
    now["user_data"] = {"anyOf": [_USER_DATA, {"type": "null"}]}
    steps.append(("2.57", body(now)))
    now = {**now, "trusted_image_certificates": _CERTIFICATES}
    steps.append(("2.63", body(now)))
    now = {**now, "hostname": _HOSTNAME}
    steps.append(("2.90", body(now)))
    now = {**now, "hostname": _FQDN}
    steps.append(("2.94", body(now)))
    return steps


REBUILD = _rebuilds()

SORT_KEYS = {
    "access_ip_v4": "access_ip_v4",
    "access_ip_v6": "access_ip_v6",
    "auto_disk_config": "disk_config",
    "availability_zone": "availability_zone",
    "config_drive": "config_drive",
    "created_at": "created_at",
    "display_description": "description",
    "display_name": "name",
    "host": "host",
    "hostname": "hostname",
    "image_ref": "image_ref",
    "instance_type_id": "flavorid",
    "key_name": "key_name",
    "launch_index": "launch_index",
    "launched_at": "launched_at",
    "locked_by": "locked_by",
    "node": "node",
    "power_state": "power_state",
    "progress": "progress",
    "project_id": "project_id",
    "root_device_name": "root_device_name",
    "task_state": "task_state",
    "terminated_at": "terminated_at",
    "updated_at": "updated_at",
    "user_id": "user_id",
    "uuid": "id",
    "vm_state": "vm_state",
    "locked": "locked",
}
"""Sort key of the API -> column. Keys of the enum that are missing here are accepted and ignored, as upstream does."""

IGNORED_SORT_KEYS = (
    "block_device_mapping",
    "extra",
    "info_cache",
    "kernel_id",
    "metadata",
    "pci_devices",
    "ramdisk_id",
    "security_groups",
    "services",
    "system_metadata",
    "tags",
    "fault",
)

_TEXT_FILTERS = [
    "user_id",
    "project_id",
    "tenant_id",
    "launch_index",
    "image_ref",
    "image",
    "kernel_id",
    "ramdisk_id",
    "hostname",
    "key_name",
    "instance_type_id",
    "launched_at",
    "terminated_at",
    "availability_zone",
    "name",
    "display_name",
    "description",
    "display_description",
    "locked_by",
    "uuid",
    "root_device_name",
    "config_drive",
    "access_ip_v4",
    "access_ip_v6",
    "accessIPv4",
    "accessIPv6",
    "auto_disk_config",
    "progress",
    "vm_state",
    "power_state",
    "task_state",
    "host",
    "node",
    "deleted",
    "status",
    "reservation_id",
    "flavor",
    "ip",
    "ip6",
    "all_tenants",
    "soft_deleted",
    "created_at",
    "block_device_mapping",
    "services",
    "metadata",
    "system_metadata",
    "info_cache",
    "extra",
    "fault",
    "security_groups",
    "pci_devices",
]


def _list_query() -> list[tuple[str, s.Schema | None]]:
    keys = [k for k in SORT_KEYS if k != "locked"]
    base = {name: s.many(s.ANY_TEXT) for name in _TEXT_FILTERS}
    base |= {
        **s.PAGING,
        "changes-since": s.many({"type": "string", "format": "date-time"}),
        "sort_key": s.many({"enum": [*keys, *IGNORED_SORT_KEYS]}),
        "sort_dir": s.many({"enum": ["asc", "desc"]}),
        "all_tenants": s.once(s.ANY_TEXT),
    }
    tags = {name: s.many(s.ANY_TEXT) for name in ("tags", "tags-any", "not-tags", "not-tags-any")}
    with_tags = {**base, **tags}
    until = {**with_tags, "changes-before": s.many({"type": "string", "format": "date-time"})}
    locked = {
        **until,
        "locked": s.many(s.ANY_TEXT),
        "sort_key": s.many({"enum": [*keys, "locked", *IGNORED_SORT_KEYS]}),
    }
    return [
        ("2.1", s.query(base)),
        ("2.26", s.query(with_tags)),
        ("2.66", s.query(until)),
        ("2.73", s.query(locked)),
        ("2.75", s.query(locked, additional=False)),
    ]


LIST_QUERY = _list_query()
