"""What identity's logic and the drivers of directories tell each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=1, le=1000)]
_Seconds = Annotated[int, msgspec.Meta(ge=1, le=600)]
_Attribute = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.;_-]{0,127}$")]


class Ldap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a directory is asked, with upstream's names and defaults but for the two timeouts, which are never endless."""

    url: str = "ldap://localhost"
    user: str | None = None
    password: str | None = None
    suffix: str = "cn=example,cn=com"
    query_scope: Literal["one", "sub"] = "one"
    page_size: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    alias_dereferencing: Literal["never", "searching", "always", "finding", "default"] = "default"
    chase_referrals: bool = False
    user_tree_dn: str | None = None
    user_filter: str | None = None
    user_objectclass: _Attribute = "inetOrgPerson"
    user_id_attribute: _Attribute = "cn"
    user_name_attribute: _Attribute = "sn"
    user_mail_attribute: _Attribute = "mail"
    user_description_attribute: _Attribute = "description"
    user_pass_attribute: _Attribute = "userPassword"
    user_enabled_attribute: _Attribute = "enabled"
    user_enabled_invert: bool = False
    user_enabled_mask: Annotated[int, msgspec.Meta(ge=0)] = 0
    user_enabled_default: str = "True"
    user_attribute_ignore: list[str] = msgspec.field(default_factory=lambda: ["default_project_id"])
    user_default_project_id_attribute: _Attribute | None = None
    user_enabled_emulation: bool = False
    user_enabled_emulation_dn: str | None = None
    user_enabled_emulation_use_group_config: bool = False
    user_additional_attribute_mapping: list[str] = msgspec.field(default_factory=list)
    group_tree_dn: str | None = None
    group_filter: str | None = None
    group_objectclass: _Attribute = "groupOfNames"
    group_id_attribute: _Attribute = "cn"
    group_name_attribute: _Attribute = "ou"
    group_members_are_ids: bool = False
    group_member_attribute: _Attribute = "member"
    group_desc_attribute: _Attribute = "description"
    group_attribute_ignore: list[str] = msgspec.field(default_factory=list)
    group_additional_attribute_mapping: list[str] = msgspec.field(default_factory=list)
    group_ad_nesting: bool = False
    tls_cacertfile: str | None = None
    tls_cacertdir: str | None = None
    use_tls: bool = False
    tls_req_cert: Literal["demand", "never", "allow"] = "demand"
    connection_timeout: _Seconds = 5
    use_pool: bool = True
    pool_size: _Count = 10
    pool_retry_max: Annotated[int, msgspec.Meta(ge=0, le=10)] = 3
    pool_retry_delay: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.1
    pool_connection_timeout: _Seconds = 5
    pool_connection_lifetime: Annotated[int, msgspec.Meta(ge=1)] = 600
    use_auth_pool: bool = True
    auth_pool_size: _Count = 100
    auth_pool_connection_lifetime: Annotated[int, msgspec.Meta(ge=1)] = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """A user as the directory has it. `handle` is how the driver finds it again; `extra` are further attributes to show."""

    local_id: str
    name: str
    handle: str
    enabled: bool = True
    default_project_id: str | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Team:
    """A group as the directory has it."""

    local_id: str
    name: str
    handle: str
    description: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A filter on names: `comparator` is one of the API's, "" is equality as the directory sees it."""

    value: str
    comparator: str = ""

    def fits(self, name: str) -> bool:
        """Whether a name that the directory found is meant: directories ignore case, inexact filters of the API do not."""
        kind, value = self.comparator, self.value
        if kind.startswith("i"):
            kind, value, name = kind[1:], value.lower(), name.lower()
        match kind:
            case "contains":
                return value in name
            case "startswith":
                return name.startswith(value)
            case "endswith":
                return name.endswith(value)
            case "equals":
                return name == value
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: of these ids (None: whatever id), and with names that fit every filter."""

    ids: Sequence[str] | None = None
    names: tuple[Named, ...] = ()
