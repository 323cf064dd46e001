"""How clients reach a cloud: with TLS, through a proxy with another name, at the classical ports."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.guest.stock import CLIENTS, User
from tests.probe.probed import wait_until
from tools.cloud import TOP, Cloud, free_port, run_here

stock = pytest.mark.skipif(not (CLIENTS / "openstack").exists(), reason="`make install` with the argument test installs the stock clients")
CLASSICAL = {"identity": 5000, "image": 9292, "placement": 8778, "network": 9696, "compute": 8774}


class Plain:
    """A client that does only what it is told: no names, no redirects, no retries of its own."""

    def __init__(self, ca: Path | None = None) -> None:
        context = ssl.create_default_context(cafile=str(ca)) if ca else None
        handlers: list[Any] = [urllib.request.ProxyHandler({})]
        self._opener = urllib.request.build_opener(*handlers, *([urllib.request.HTTPSHandler(context=context)] if context else []))
        self.token = ""

    def __call__(self, method: str, url: str, body: Any = None) -> tuple[int, Any, Any]:
        headers = {"Content-Type": "application/json", **({"X-Auth-Token": self.token} if self.token else {})}
        request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, headers, method=method)
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, answer.headers, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.headers, json.loads(error.read() or b"null")

    def login(self, variables: dict[str, str]) -> dict[str, str]:
        """The public URLs of the catalog by service type."""
        user = {"name": variables["OS_USERNAME"], "domain": {"id": "default"}, "password": variables["OS_PASSWORD"]}
        scope = {"project": {"name": variables["OS_PROJECT_NAME"], "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        status, headers, body = self("POST", variables["OS_AUTH_URL"] + "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        assert status == 201, body
        self.token = headers["X-Subject-Token"]
        catalog = {}
        for entry in body["token"]["catalog"]:
            catalog.update({entry["type"]: endpoint["url"] for endpoint in entry["endpoints"] if endpoint["interface"] == "public"})
        return catalog


def links_of(document: Any) -> Iterator[str]:
    """Every absolute URL in a JSON document."""
    if isinstance(document, dict):
        for value in document.values():
            yield from links_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from links_of(value)
    elif isinstance(document, str) and document.startswith(("http://", "https://")):
        yield document


def documents(client: Plain, catalog: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Version documents of all services, and lists with links in them."""
    for url in catalog.values():
        status, _, body = client("GET", url.rstrip("/") + "/")
        assert status in {200, 300}, (url, body)
        yield url, body
    for service, path in (("compute", "/flavors/detail"), ("compute", "/servers/detail"), ("compute", "/flavors?limit=1"), ("identity", "/users"), ("identity", "/projects")):
        status, _, body = client("GET", catalog[service] + path)
        assert status == 200, body
        yield catalog[service] + path, body


def check_links(client: Plain, catalog: dict[str, str], base: str) -> None:
    seen = 0
    for where, body in documents(client, catalog):
        for link in links_of(body):
            if "docs.openstack.org" in link or "json-schema.org" in link:
                continue
            seen += 1
            assert link.startswith(base), f"{where} has a link to {link}"
    assert seen > 20


def boot_and_delete(client: Plain, catalog: dict[str, str]) -> None:
    """A server from request to end: API, controller and agent reach each other."""
    _, _, images = client("GET", catalog["image"].rstrip("/") + "/v2/images?name=guest")
    _, _, networks = client("GET", catalog["network"].rstrip("/") + "/v2.0/networks?name=private")
    body = {"name": "bound", "imageRef": images["images"][0]["id"], "flavorRef": "42", "networks": [{"uuid": networks["networks"][0]["id"]}]}
    status, _, made = client("POST", catalog["compute"] + "/servers", {"server": body})
    assert status == 202, made
    url = f"{catalog['compute']}/servers/{made['server']['id']}"
    assert made["server"]["links"][0]["href"].startswith(catalog["compute"])
    state = lambda: client("GET", url)[2]["server"]["status"]  # noqa: E731
    wait_until(lambda: state() in {"ACTIVE", "ERROR"}, "the server is built")
    assert state() == "ACTIVE", client("GET", url)[2]
    assert client("DELETE", url)[0] == 204
    wait_until(lambda: client("GET", url)[0] == 404, "the server is gone")


@contextlib.contextmanager
def running(cloud: Cloud) -> Iterator[Cloud]:
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.pileus("destroy", "--yes", check=False)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("tls") / "home")
    lines = cloud.pileus("tls", "cloud.example.test").stdout
    (cloud.home / "pileus.toml").write_text(lines)
    with running(cloud):
        yield cloud


def test_with_tls_the_catalog_and_all_links_are_https(secured):
    client = Plain(secured.home / "tls" / "ca.pem")
    catalog = client.login(secured.variables())
    assert {urlsplit(url).scheme for url in catalog.values()} == {"https"}
    check_links(client, catalog, f"https://127.0.0.1:{secured.port}/")


def test_with_tls_servers_are_built(secured):
    client = Plain(secured.home / "tls" / "ca.pem")
    boot_and_delete(client, client.login(secured.variables("demo")))
    assert json.loads(secured.pileus("status", "--json").stdout)["healthy"]
    assert json.loads(secured.pileus("doctor", "--json").stdout)["healthy"]


def test_with_tls_a_client_without_the_ca_and_one_without_tls_are_refused(secured):
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        Plain()("GET", f"https://127.0.0.1:{secured.port}/")
    with pytest.raises(OSError):
        Plain()("GET", f"http://127.0.0.1:{secured.port}/")


def test_the_certificate_names_what_was_asked_for_and_its_keys_are_private(secured):
    context = ssl.create_default_context(cafile=str(secured.home / "tls" / "ca.pem"))
    for name in ("localhost", "127.0.0.1", "cloud.example.test"):
        with socket.create_connection(("127.0.0.1", secured.port), timeout=30) as raw:
            with context.wrap_socket(raw, server_hostname=name) as secure:
                assert secure.getpeercert()
    for key in ("server.key", "ca.key"):
        assert (secured.home / "tls" / key).stat().st_mode & 0o777 == 0o600


@stock
def test_stock_clients_work_with_tls(secured):
    user = User(run_here, secured.variables("demo"))
    assert user.variables["OS_CACERT"]
    assert {entry["Name"] for entry in user("network", "list")} >= {"private", "public"}
    assert "m1.nano" in {entry["Name"] for entry in user("flavor", "list")}


class Proxy:
    """Forwards what comes below /cloud to a port of this machine, as a web server in front of the cloud does."""

    def __init__(self, port: int) -> None:
        self.seen: list[str] = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                proxy.seen.append(self.path)
                if not self.path.startswith("/cloud/"):
                    self.send_error(404)
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
                request = urllib.request.Request(f"http://127.0.0.1:{port}{self.path.removeprefix('/cloud')}", body or None, headers, method=self.command)
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                try:
                    answer = opener.open(request, timeout=60)
                except urllib.error.HTTPError as error:
                    answer = error
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in {"content-length", "connection", "date", "server", "transfer-encoding"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cloud, str]]:
    port = free_port()
    proxy = Proxy(port)
    url = f"http://localhost:{proxy.port}/cloud"
    cloud = Cloud(tmp_path_factory.mktemp("proxied") / "home", port=port, settings={"PILEUS_API__PUBLIC_URL": url})
    try:
        with running(cloud):
            yield cloud, url
    finally:
        proxy.close()


def test_behind_a_proxy_the_catalog_and_all_links_follow_public_url(proxied):
    cloud, url = proxied
    variables = cloud.variables()
    assert variables["OS_AUTH_URL"] == f"{url}/identity/v3"
    client = Plain()
    catalog = client.login(variables)
    assert all(entry.startswith(url + "/") for entry in catalog.values()), catalog
    check_links(client, catalog, url + "/")


def test_behind_a_proxy_servers_are_built(proxied):
    cloud, _ = proxied
    client = Plain()
    boot_and_delete(client, client.login(cloud.variables("demo")))


def test_a_refused_token_names_identity_as_clients_reach_it(proxied):
    cloud, url = proxied
    client = Plain()
    catalog = client.login(cloud.variables())
    client.token = "wrong"
    status, headers, _ = client("GET", catalog["compute"] + "/servers")
    assert status == 401
    assert url in headers["WWW-Authenticate"]


@stock
def test_stock_clients_work_behind_a_proxy(proxied):
    cloud, _ = proxied
    user = User(run_here, cloud.variables("demo"))
    assert {entry["Name"] for entry in user("network", "list")} >= {"private", "public"}
    assert "m1.nano" in {entry["Name"] for entry in user("flavor", "list")}
    assert user("image", "list")[0]["Name"] == "guest"


def test_with_endpoints_ports_each_service_has_its_classical_port(host):
    """On a test host, where these ports are free for sure."""
    cloud = Cloud(host.dir / "home", host.run, port=5000, settings={"PILEUS_API__ENDPOINTS": "ports"})
    cloud.up()
    script = (
        "import sys, json; from tests.probe import test_bindings as t\n"
        "client = t.Plain(); catalog = client.login(json.loads(sys.argv[1]))\n"
        "ports = {name: t.urlsplit(url).port for name, url in catalog.items()}\n"
        "assert ports == t.CLASSICAL, ports\n"
        "for where, body in t.documents(client, catalog):\n"
        "    for link in t.links_of(body):\n"
        "        assert 'docs.openstack' in link or 'json-schema.org' in link or t.urlsplit(link).port == t.urlsplit(where).port, (where, link)\n"
        "t.boot_and_delete(client, client.login(json.loads(sys.argv[2])))\n"
    )
    python = TOP / ".venv/bin/python"
    users = [json.dumps(cloud.variables(user)) for user in ("admin", "demo")]
    host.run([python, "-c", script, *users], cwd=TOP, timeout=120)
    cloud.down()
