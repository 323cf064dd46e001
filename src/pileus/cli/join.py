"""`pileus node join` and `renew`: what a machine does to become a node, and to remain one."""

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
from pileus.kernel.certificates import fingerprint, new_request
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
    """Make this machine a node of the cloud that the token is of."""
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
    with steps.step(f"join as {name}"):
        key, request = new_request(name)
        answer = _ask_in(token, authority, {"secret": token.secret, "name": name, "request": request.decode()})
    record(home, key, answer)
    steps.say(f"{name} is a node of {token.url}, with {', '.join(answer['node']['roles'])}; now `pileus up`.")
    return 0


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
    sections = {name: {**values, **files.get(name, {})} for name, values in given["settings"].items()}
    # Strings, numbers, booleans and lists of them are written alike in JSON and TOML.
    lines = [
        f"[{name}]\n" + "".join(f"{option} = {json.dumps(value)}\n" for option, value in values.items())
        for name, values in sections.items()
    ]
    write_private(home / "pileus.toml", "\n".join(lines).encode())


def renew(arguments: argparse.Namespace) -> int:
    """A new certificate for this node, before the old one ends."""
    ends = server_node.renew(load_config(home_of(arguments)))
    Steps(quiet=arguments.quiet).say(f"The certificate of this node is good until {clock.iso(ends)}.")
    return 0
