"""Configuration: one TOML file, environment variables above it, every option typed and documented.

Sections are msgspec structs; a room's section is its `options.py`. Unknown or wrong options stop the start with a
sentence that names them.
"""

from __future__ import annotations

import ipaddress
import os
import pathlib
import socket
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from pileus.kernel.errors import ConfigurationError


def Doc(text: str, *, own: bool = False) -> msgspec.Meta:  # noqa: N802 - reads as an annotation
    """The sentence that documents an option; `own` ones are each machine's, the others the same on all controllers."""
    return msgspec.Meta(description=text, extra={"own": True} if own else None)


_Count = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Pileus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[pileus]"""

    host: Annotated[str, Doc("Name of this machine in the cloud; the host name when empty.", own=True)] = ""
    region: Annotated[str, Doc("Name of the region in the catalog.")] = "RegionOne"
    services: Annotated[list[str], Doc("Services to run.")] = msgspec.field(
        default_factory=lambda: ["identity", "image", "placement", "network", "compute"]
    )
    roles: Annotated[
        list[Literal["controller", "compute", "network"]],
        Doc(
            "What this machine does: answer the API and hold the databases, run guests, serve routers and DHCP. A machine"
            " that is no controller is made with `pileus node join`.",
            own=True,
        ),
    ] = msgspec.field(default_factory=lambda: ["controller", "compute", "network"])
    simulate: Annotated[bool, Doc("Use the fake drivers: no guests, no networks, same API.")] = False


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[api]"""

    host: Annotated[str, Doc("Address to listen on.", own=True)] = "127.0.0.1"
    port: Annotated[int, Doc("Port to listen on."), msgspec.Meta(ge=1, le=65535)] = 5000
    public_url: Annotated[str, Doc("Base URL under which clients reach the API, when it is not the address above.")] = (
        ""
    )
    endpoints: Annotated[
        Literal["paths", "ports"], Doc('"paths": one port with prefixes; "ports": each service at its classical port.')
    ] = "paths"
    workers: Annotated[_Count, Doc("API worker processes.")] = 2
    threads: Annotated[_Count, Doc("Request threads of each worker.")] = 8
    stream_threads: Annotated[_Count, Doc("Threads for uploads and downloads of each worker.")] = 16
    max_body: Annotated[_Count, Doc("Largest JSON body in bytes.")] = 114688
    idle_timeout: Annotated[_Seconds, Doc("Seconds without a byte after which an upload is given up.")] = 60.0
    drain: Annotated[
        float,
        Doc(
            "Seconds for which a worker that is asked to stop still takes requests while /healthcheck says 503, so that"
            " a load balancer takes it out first."
        ),
        msgspec.Meta(ge=0, le=60),
    ] = 0.0
    stop_seconds: Annotated[
        float, Doc("Seconds that requests under way may still take when Pileus is stopped."), msgspec.Meta(gt=0, le=60)
    ] = 30.0
    certificate: Annotated[str, Doc("Path of the TLS certificate chain (PEM); TLS is on when set.")] = ""
    key: Annotated[str, Doc("Path of the TLS private key (PEM).")] = ""
    controller_url: Annotated[
        str,
        Doc(
            "Base URL of the controllers' API, where agents and peers reach it; this machine's own listener when empty.",
            own=True,
        ),
    ] = ""
    ca: Annotated[
        str, Doc("Path of the authority (PEM) that signs the API's certificate; that certificate's chain when empty.")
    ] = ""
    trusted_proxies: Annotated[
        list[str],
        Doc("Addresses or networks of proxies whose X-Forwarded-* headers count."),
    ] = msgspec.field(default_factory=list)
    assertion_headers: Annotated[
        list[str],
        Doc(
            "Headers by which a trusted proxy says who is asking: names, or beginnings of names that end with a dash."
            " They are dropped unless the proxy vouches for them in the header X-Assertion."
        ),
    ] = msgspec.field(
        default_factory=lambda: ["OIDC-", "MELLON-", "SHIB-", "SSL-CLIENT-", "REMOTE-USER", "REMOTE-DOMAIN"]
    )
    assertion_secret: Annotated[
        str,
        Doc(
            "With what a trusted proxy vouches for such headers: X-Assertion holds it and the names or beginnings of those that"
            " the proxy itself has written. Without it nobody's count."
        ),
    ] = ""

    client_certificate_header: Annotated[
        str,
        Doc(
            "Header (one of assertion_headers) in which a trusted proxy tells the certificate of a client: PEM, also encoded"
            " as in URLs, or the Base64 of DER."
        ),
    ] = "SSL-CLIENT-CERT"

    def __post_init__(self) -> None:
        if self.public_url and not self.public_url.startswith(("http://", "https://")):
            raise ValueError(f"public_url {self.public_url!r} has to begin with http:// or https://")
        if self.controller_url and not self.controller_url.startswith(("http://", "https://")):
            raise ValueError(f"controller_url {self.controller_url!r} has to begin with http:// or https://")
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together: one of them is missing")
        secret = self.assertion_secret
        if secret and (len(secret) < 16 or not all("!" <= letter <= "~" for letter in secret)):
            raise ValueError("assertion_secret has at least 16 characters, ASCII without spaces")
        for text in self.trusted_proxies:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {error}") from error


class DatabaseOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[database]"""

    url: Annotated[
        str,
        Doc(
            'Where the databases are; "{service}" is replaced by the service name. SQLite files below the home when empty.'
        ),
    ] = ""
    pool_size: Annotated[_Count, Doc("Pooled connections of each service in each process.")] = 16


class BusOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[bus]"""

    url: Annotated[
        str,
        Doc(
            "RabbitMQ, as amqp://user:password@host:5672/vhost or amqps://...; several brokers of one cluster are"
            " separated by semicolons. Unix sockets of this machine when empty."
        ),
    ] = ""
    quorum: Annotated[bool, Doc("Queues are replicated quorum queues: for a cluster of three or more brokers.")] = False
    ca: Annotated[
        str, Doc("Path of the authority (PEM) that signs the brokers' certificates; the system's when empty.")
    ] = ""
    certificate: Annotated[
        str,
        Doc(
            "Path of the certificate (PEM) that processes show the broker; it also logs in when the URL names no user, as"
            " its common name (ssl_cert_login_from = common_name)."
        ),
    ] = ""
    key: Annotated[str, Doc("Path of the private key (PEM) of that certificate.")] = ""
    management: Annotated[
        str,
        Doc(
            "RabbitMQ's management API with an administrator of it, as http://user:password@host:15672; needed on"
            " controllers to let nodes in and out. Several are separated by semicolons."
        ),
    ] = ""
    prefetch: Annotated[
        int, Doc("Calls of one topic that a process answers at the same time."), msgspec.Meta(ge=1, le=65535)
    ] = 32

    def __post_init__(self) -> None:
        urls = self.url.split(";") if self.url else []
        if any(not url.startswith(("amqp://", "amqps://")) for url in urls):
            raise ValueError("url has to begin with amqp:// or amqps://, and so has each one after a semicolon")
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together: one of them is missing")
        if self.management and any(not url.startswith(("http://", "https://")) for url in self.management.split(";")):
            raise ValueError("management has to begin with http:// or https://, and so has each one after a semicolon")
        if (self.ca or self.certificate) and not all(url.startswith("amqps://") for url in urls or [""]):
            raise ValueError("ca and certificate need a url that begins with amqps://")


KERNEL_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "pileus": Pileus,
    "api": Api,
    "database": DatabaseOptions,
    "bus": BusOptions,
}


HOME = "{home}"
"""Stands for the home of a machine in paths that another one is told."""


def _common(section: msgspec.Struct, home: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        value = getattr(section, field.name)
        notes = [note.extra or {} for note in getattr(field.type, "__metadata__", ()) if isinstance(note, msgspec.Meta)]
        if value == default or any(note.get("own") for note in notes):
            continue
        is_below = isinstance(value, str) and value.startswith(f"{home}/")
        found[field.name] = HOME + value.removeprefix(home) if is_below else value
    return found


class Config:
    """All sections of one installation, converted and checked."""

    def __init__(self, home: pathlib.Path, sections: Mapping[str, msgspec.Struct]) -> None:
        self.home = home
        self._sections = dict(sections)
        self.pileus: Pileus = self._sections["pileus"]  # type: ignore[assignment]
        self.api: Api = self._sections["api"]  # type: ignore[assignment]
        self.database: DatabaseOptions = self._sections["database"]  # type: ignore[assignment]
        self.bus: BusOptions = self._sections["bus"]  # type: ignore[assignment]

    def section(self, name: str) -> Any:
        """The options of one section; KeyError when no room declared it."""
        return self._sections[name]

    @property
    def host(self) -> str:
        return self.pileus.host or socket.gethostname()

    def for_host(self, host: str, home: pathlib.Path) -> Config:
        """The same on another host, with a home of its own."""
        return Config(home, {**self._sections, "pileus": msgspec.structs.replace(self.pileus, host=host)})

    @property
    def scheme(self) -> str:
        return "https" if self.api.certificate else "http"

    @property
    def base_url(self) -> str:
        """The URL of this installation as clients see it, without a slash at the end."""
        if self.api.public_url:
            return self.api.public_url.rstrip("/")
        return f"{self.scheme}://{self.reachable_host}:{self.api.port}"

    @property
    def internal_url(self) -> str:
        """The API as processes of this machine reach it: the controllers', or this machine's own listener."""
        if self.api.controller_url:
            return self.api.controller_url.rstrip("/")
        return f"{self.scheme}://{self.reachable_host}:{self.api.port}"

    @property
    def ca_file(self) -> str | None:
        """What the API's certificate is checked against; None is what the system trusts."""
        return self.api.ca or self.api.certificate or None

    @property
    def is_controller(self) -> bool:
        return "controller" in self.pileus.roles

    @property
    def reachable_host(self) -> str:
        """An address that a client on this machine can use; brackets around IPv6."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.api.host, self.api.host)
        return f"[{host}]" if ":" in host else host

    @property
    def shares_databases(self) -> bool:
        """Whether other machines may use the same databases: they are on a server, not in files."""
        return bool(self.database.url) and not self.database.url.startswith("sqlite")

    def common(self) -> dict[str, dict[str, Any]]:
        """What another controller of this cloud is configured with: every option that is set and is not a machine's own.

        Paths below the home begin with HOME.
        """
        found = {name: _common(section, str(self.home)) for name, section in self._sections.items()}
        return {name: values for name, values in found.items() if values}

    def database_url(self, service: str) -> str:
        if self.database.url:
            if "{service}" not in self.database.url and not self.database.url.startswith("sqlite"):
                raise ConfigurationError('database.url needs "{service}" in it: each service has its own database')
            return self.database.url.replace("{service}", service)
        return f"sqlite:///{self.home}/databases/{service}.sqlite"


def default_home() -> pathlib.Path:
    """PILEUS_HOME, /var/lib/pileus for root, ~/.local/share/pileus otherwise."""
    if os.environ.get("PILEUS_HOME"):
        return pathlib.Path(os.environ["PILEUS_HOME"]).absolute()
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/pileus")
    return pathlib.Path.home() / ".local/share/pileus"


def load(
    home: pathlib.Path,
    sections: Mapping[str, type[msgspec.Struct]],
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Read `home/pileus.toml`, lay the environment and then `overrides` above it, convert and check.

    Raises ConfigurationError with a sentence that names the option.
    """
    path = home / "pileus.toml"
    types = {**KERNEL_SECTIONS, **sections}
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text()) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    for name, content in raw.items():
        if name not in types:
            raise ConfigurationError(f"{path}: unknown section [{name}]; there are {', '.join(sorted(types))}")
        if not isinstance(content, dict):
            raise ConfigurationError(f"{path}: [{name}] is a section, and something else is there")
    _lay_environment(raw, types, os.environ if environ is None else environ)
    for name, values in (overrides or {}).items():
        raw.setdefault(name, {}).update(values)
    converted = {}
    for name, kind in types.items():
        try:
            converted[name] = msgspec.convert(raw.get(name, {}), kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{path}, section [{name}]: {error}") from error
    return Config(home, converted)


def _lay_environment(
    raw: dict[str, Any], types: Mapping[str, type[msgspec.Struct]], environ: Mapping[str, str]
) -> None:
    for variable, value in environ.items():
        if not variable.startswith("PILEUS_") or "__" not in variable:
            continue
        section, _, option = variable.removeprefix("PILEUS_").lower().partition("__")
        fields = {field.name: field for field in msgspec.structs.fields(types[section])} if section in types else {}
        if option not in fields:
            raise ConfigurationError(
                f"environment variable {variable}: there is no option {option} in section [{section}]"
            )
        is_list = str(fields[option].type).startswith(("list", "typing.Annotated[list"))
        given = [part.strip() for part in value.split(",") if part.strip()] if is_list else value
        try:
            msgspec.convert(given, fields[option].type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"environment variable {variable}: option {option}: {error}") from error
        raw.setdefault(section, {})[option] = given
