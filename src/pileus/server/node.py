"""A machine as a node of a cloud: what it has from the controllers, and the renewal of its certificate."""

from __future__ import annotations

import datetime as dt
import logging
import pathlib

import orjson
import urllib3

from pileus.clients.base import PeerUnavailable
from pileus.kernel import clock
from pileus.kernel.certificates import end_of, new_request
from pileus.kernel.config import Config
from pileus.kernel.errors import ConfigurationError
from pileus.server.assembly import service_tokens
from pileus.server.secrets import node_login, write_private

_log = logging.getLogger(__name__)
RENEW_BEFORE = dt.timedelta(days=30)


def certificate_of(home: pathlib.Path) -> pathlib.Path:
    return home / "tls" / "node.pem"


def key_of(home: pathlib.Path) -> pathlib.Path:
    return home / "tls" / "node.key"


def renew(config: Config) -> dt.datetime:
    """Get a new certificate for a new key; when it ends. The next connection to the broker uses it.

    Raises ConfigurationError on a machine that is no node, PeerUnavailable when the controllers give none.
    """
    login = node_login(config.home)
    if login is None:
        raise ConfigurationError("This machine is no node of a cloud: it has not joined one.")
    key, request = new_request(login.user)
    url = f"{config.internal_url}/identity/v3/pileus/nodes/{login.name}/certificates"
    headers = {"X-Auth-Token": service_tokens(config).of(login.user), "Content-Type": "application/json"}
    body = orjson.dumps({"certificate": {"request": request.decode()}})
    pool = urllib3.PoolManager(retries=False, ca_certs=config.ca_file)
    try:
        answer = pool.request("POST", url, body=body, headers=headers, timeout=30.0)
    except urllib3.exceptions.HTTPError as error:
        raise PeerUnavailable("The controllers do not answer.", status=503, inside=repr(error)) from error
    if answer.status != 201:
        raise PeerUnavailable(f"The controllers give {login.name} no certificate (status {answer.status}).", status=503)
    certificate = orjson.loads(answer.data)["certificate"]["certificate"].encode()
    write_private(key_of(config.home), key)  # whoever connects between the two fails, and tries again
    write_private(certificate_of(config.home), certificate)
    return end_of(certificate)


def renew_when_due(config: Config) -> None:
    """Renew a certificate that ends soon."""
    if end_of(certificate_of(config.home).read_bytes()) - clock.utcnow() < RENEW_BEFORE:
        _log.info("the certificate of this node is renewed and ends at %s", clock.iso(renew(config)))
