"""`pileus node join` and `renew`: what a machine does to become a node or a controller, and to remain a node."""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hmac
import http.client
import json
import pathlib
import socket
import ssl
import urllib.parse
from typing import Any

import urllib3

from pileus.cli.session import home_of, load_config
from pileus.cli.terminal import Problem, Steps
from pileus.kernel import clock
from pileus.kernel.certificates import Authority, fingerprint, new_request
from pileus.server import node as server_node
from pileus.server.secrets import NodeLogin, write_node_login, write_private

_SECONDS = 30.0
_PATH = "/identity/v3/pileus"


@dataclasses.dataclass(frozen=True)
class Token:
    """An invitation in one line: where the controllers are, whom to trust there, and a secret that is good once."""

    url: str
    fingerprint: str
    secret: str

    def text(self) -> str:
        return base64.urlsafe_b64encode(json.dumps(dataclasses.asdict(self)).encode()).decode()

    @staticmethod
    def parse(text: str) -> Token:
        """Raises Problem for what `pileus node token` has not printed."""
        try:
            token = Token(**json.loads(base64.b64decode(text.strip(), altchars=b"-_", validate=True)))
            if all(isinstance(value, str) for value in dataclasses.astuple(token)) and token.url.startswith("https://"):
                return token
        except (ValueError, TypeError):
            pass
        raise Problem("This is no token of `pileus node token`: copy the whole line.")


def run(arguments: argparse.Namespace) -> int:
    """Make this machine a node or a controller of the cloud that the token is of."""
    home = home_of(arguments)
    token = Token.parse(arguments.token)
    name = arguments.name or socket.gethostname()
    for path in (home / "keys", home / "databases", home / "pileus.toml"):
        if path.exists():
            raise Problem(
                f"There is a cloud or a node in {home} already ({path.name}): `pileus destroy --yes` removes it."
            )
    steps = Steps(quiet=arguments.quiet)
    with steps.step(f"{urllib.parse.urlsplit(token.url).hostname} is who the token names"):
        authority = trusted_authority(token)
        address = _own_address(token.url)
    with steps.step(f"join as {name}"):
        key, request = new_request(name)
        answer = _ask_in(token, authority, {"secret": token.secret, "name": name, "request": request.decode()})
    roles = answer["node"]["roles"]
    if "controller" in roles:
        record_controller(home, address, answer)
        steps.say(f"{name} listens at {address}: tell the load balancer. pileus.toml has what is the same on all controllers.")
    else:
        record(home, key, answer)
    steps.say(f"{name} has joined {token.url} with {', '.join(roles)}; now `pileus up`.")
    return 0


def _own_address(url: str) -> str:
    """The address of this machine from which it reaches a URL."""
    parts = urllib.parse.urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_SECONDS) as connection:
            return str(connection.getsockname()[0])
    except OSError as error:
        raise Problem(f"{url} does not answer: {error}.") from error


def trusted_authority(token: Token) -> bytes:
    """The authority of the cloud, fetched from whoever answers and compared to the token. Raises Problem."""
    parts = urllib.parse.urlsplit(token.url)
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=_SECONDS, context=anybody)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}{_PATH}/authority")
        certificate: bytes = json.loads(connection.getresponse().read())["authority"]["certificate"].encode()
        found = fingerprint(certificate)
    except (OSError, http.client.HTTPException) as error:
        raise Problem(f"{token.url} does not answer: {error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(f"{token.url} does not say who it is: it is no controller that lets nodes in.") from error
    finally:
        connection.close()
    if not hmac.compare_digest(found, token.fingerprint):
        raise Problem(f"Whoever answers at {token.url} is not who made the token. Nothing was sent to it.")
    return certificate


def _ask_in(token: Token, authority: bytes, body: dict[str, str]) -> dict[str, Any]:
    pool = urllib3.PoolManager(retries=False, ca_cert_data=authority.decode())
    headers = {"Content-Type": "application/json"}
    url = token.url.rstrip("/") + _PATH + "/nodes"
    try:
        answer = pool.request("POST", url, body=json.dumps({"node": body}), headers=headers, timeout=_SECONDS)
    except urllib3.exceptions.HTTPError as error:
        raise Problem(f"{token.url} cannot be trusted or does not answer: {error}.") from error
    if answer.status == 401:
        raise Problem("The token was used, or its time is over: `pileus node token` on a controller makes another one.")
    said: dict[str, Any] = json.loads(answer.data)
    if answer.status != 201:
        raise Problem(said.get("error", {}).get("message") or f"The controller answers with status {answer.status}.")
    return said


def record(home: pathlib.Path, key: bytes, answer: dict[str, Any]) -> None:
    """Keys, certificates and configuration of the node, readable by their owner alone."""
    given, node = answer["given"], answer["node"]
    write_private(home / "tls" / "ca.pem", given["authority"].encode())
    write_private(server_node.key_of(home), key)
    write_private(server_node.certificate_of(home), given["certificate"].encode())
    write_node_login(home, NodeLogin(node["name"], node["principal"], given["password"]))
    authority = str(home / "tls" / "ca.pem")
    files: dict[str, dict[str, str]] = {
        "api": {"ca": authority},
        "bus": {
            "ca": authority,
            "certificate": str(server_node.certificate_of(home)),
            "key": str(server_node.key_of(home)),
        },
    }
    _configure(home, {name: {**values, **files.get(name, {})} for name, values in given["settings"].items()})


_KNOWN_FILES = ("keys/", "tls/", "etc/")


def record_controller(home: pathlib.Path, address: str, answer: dict[str, Any]) -> None:
    """What all controllers have the same, and a certificate of this one's own, made with the authority that it now has.

    Raises Problem for an answer that would write elsewhere.
    """
    given, name = answer["given"], answer["node"]["name"]
    for path in given["files"]:
        if not path.startswith(_KNOWN_FILES) or ".." in path:
            raise Problem(f"The controller wants to write {path} here. Nothing is done.")
    for path, content in given["files"].items():
        write_private(home / path, content.encode())
    write_private(home / "tls" / "ca.pem", given["authority"].encode())
    settings = _in_home(given["settings"], given["home"], str(home))
    api = settings.setdefault("api", {})
    api["host"] = address
    public = urllib.parse.urlsplit(api["public_url"]).hostname or address
    key, chain = Authority.load(home / "tls").server(name, sorted({name, address, public, "localhost", "127.0.0.1", "::1"}))
    write_private(home / "tls" / "server.key", key)
    write_private(home / "tls" / "server.pem", chain)
    _configure(home, settings)


def _in_home(settings: dict[str, dict[str, Any]], mark: str, home: str) -> dict[str, dict[str, Any]]:
    """Paths below the home of the controller that told them, below this one."""

    def own(value: Any) -> Any:
        return home + value.removeprefix(mark) if isinstance(value, str) and value.startswith(f"{mark}/") else value

    return {name: {option: own(value) for option, value in values.items()} for name, values in settings.items()}


def _configure(home: pathlib.Path, sections: dict[str, dict[str, Any]]) -> None:
    lines = [
        f"[{name}]\n" + "".join(f"{option} = {_toml(value)}\n" for option, value in values.items())
        for name, values in sections.items()
    ]
    write_private(home / "pileus.toml", "\n".join(lines).encode())


def _toml(value: Any) -> str:
    """Strings, numbers, booleans and lists of them are written alike in JSON and TOML; tables are not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


def renew(arguments: argparse.Namespace) -> int:
    """A new certificate for this node, before the old one ends."""
    ends = server_node.renew(load_config(home_of(arguments)))
    Steps(quiet=arguments.quiet).say(f"The certificate of this node is good until {clock.iso(ends)}.")
    return 0
