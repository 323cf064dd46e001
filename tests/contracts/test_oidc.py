"""People of an OpenID provider log in: a provider, Apache with mod_auth_openidc as docs/operate/federation.md has it, a real listener."""

from __future__ import annotations

import contextlib
import html
import json
import os
import pathlib
import re
import socket
import subprocess
import threading

import pytest
import requests

from pileus.kernel.certificates import Authority, new_request
from pileus.server.edge import Gateway
from pileus.server.listener import make_server
from tests.api.identity.world import PASSWORD, Identity
from tests.apache import Apache, folder
from tests.oidc import CLIENT, SECRET, Provider
from tools.cloud import free_port

TOP = pathlib.Path(__file__).resolve().parents[2]
PAGE = (TOP / "docs/operate/federation.md").read_text()
OPENSTACK = TOP / ".build/clients/bin/openstack"
DASHBOARD = "https://cloud.example.org/dashboard/auth/websso/"
MODULES = ("auth_openidc", "proxy", "proxy_http", "headers", "ssl", "socache_shmcb")
AUTH = "/v3/OS-FEDERATION/identity_providers/corporate/protocols/openid/auth"


def block(kind, number=0):
    """A piece of the page that is written in this language."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found[number]


@contextlib.contextmanager
def listening(identity):
    """The identity service at a free port of loopback, behind the edge; gives the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    gateway = Gateway({"/identity": identity.client.app}, identity.service.config)
    server = make_server(gateway, identity.service.config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        gateway.close()
        listener.close()


class Cloud:
    """Identity behind Apache, with an identity provider as the page has it."""

    def __init__(self, identity, provider, apache, url, ca, clients):
        self.identity, self.provider, self.apache, self.url, self.ca, self.clients = identity, provider, apache, url, ca, clients

    def browser(self):
        found = requests.Session()
        found.verify = self.ca
        found.trust_env = False
        return found

    def log_in(self, browser, path, name, password, **headers):
        """Follow the way through the provider's form; what comes at its end. `headers` go with every request."""
        form = browser.get(self.url + path, headers=headers, timeout=30)
        assert form.url.startswith(self.provider.issuer), (form.status_code, form.text, self.apache.log)
        fields = {key: html.unescape(value) for key, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text)}
        return browser.post(f"{self.provider.issuer}/login", data={**fields, "username": name, "password": password}, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    home = tmp_path_factory.mktemp("oidc")
    (home / "pileus.toml").write_text(block("toml"))
    identity = Identity(home=home)
    port = free_port()
    url = f"https://localhost:{port}"
    authority = Authority.make()
    key, chain = authority.server("localhost", ["localhost"])
    (home / "both.pem").write_bytes(key + chain)
    clients = Authority.make()
    with Provider(home / "both.pem") as provider, folder() as directory, listening(identity) as behind:
        for name, content in (("cloud.key", key), ("cloud.pem", chain), ("ca.pem", authority.pem), ("clients.pem", clients.pem)):
            (directory / name).write_bytes(content)
        (directory / "cloud.key").chmod(0o600)
        bundle = f"OIDCCABundlePath {directory}/ca.pem\n"
        whole = block("apache").replace("    OIDCProviderMetadataURL", block("apache", 1) + "    OIDCProviderMetadataURL", 1)
        with Apache(directory, MODULES, bundle + adapted(whole, port, behind, provider, directory), port=port) as apache:
            ca = str(directory / "ca.pem")
            prepare(identity, provider, url, ca, home)
            yield Cloud(identity, provider, apache, url, ca, clients)
    identity.client.close()


def adapted(configuration, port, behind, provider, folder):
    """What the page writes, with the addresses of this test."""
    for there, here in (
        ("*:443", f"127.0.0.1:{port}"),
        ("ServerName cloud.example.org", "ServerName localhost"),
        ("https://cloud.example.org", f"https://localhost:{port}"),
        ("https://idp.example.org", provider.issuer),
        ("http://127.0.0.1:5000", f"http://127.0.0.1:{behind}"),
        ("/etc/ssl/private", str(folder)),
    ):
        assert there in configuration, there
        configuration = configuration.replace(there, here)
    return configuration


def prepare(identity, provider, url, ca, folder):
    """The provider, its mapping and its groups: the page's own commands, given to the stock client."""
    identity.make("project", name="work")
    for endpoint in identity("GET", "/endpoints").json["endpoints"]:
        changed = endpoint["url"].replace("http://c", url)
        identity("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"url": changed}}, ok=200)
    done = administer(url, ca, block("sh").replace("https://idp.example.org", provider.issuer), folder)
    assert done.returncode == 0, done.stdout + done.stderr


def administer(url, ca, commands, folder):
    """Commands of a shell in which `openstack` is the administrator."""
    assert OPENSTACK.exists(), "`make install` with the argument test installs it"
    admin = {"OS_AUTH_URL": f"{url}/v3", "OS_USERNAME": "admin", "OS_PASSWORD": PASSWORD, "OS_PROJECT_NAME": "admin", "OS_CACERT": ca}
    admin |= {"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_IDENTITY_API_VERSION": "3"}
    environment = {**clean(), **admin, "PATH": f"{OPENSTACK.parent}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-e"], input=commands, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)


def clean():
    """The environment without what would lead clients elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OS_") and "proxy" not in name.lower() and name != "PYTHONPATH"}


def rescoped(cloud, token):
    """A token for the project, by the way through Apache that any client goes."""
    scope = {"project": {"name": "work", "domain": {"id": "default"}}}
    auth = {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": scope}}
    return cloud.browser().post(f"{cloud.url}/v3/auth/tokens", json=auth, timeout=30)


def test_a_person_logs_in_by_the_code_flow(cloud):
    browser = cloud.browser()
    answer = cloud.log_in(browser, AUTH, "alice", "alice-pw")
    assert answer.status_code == 201, (answer.text, cloud.apache.log)
    user = answer.json()["token"]["user"]
    assert (user["name"], len(user["OS-FEDERATION"]["groups"])) == ("alice", 1)
    scoped = rescoped(cloud, answer.headers["X-Subject-Token"])
    assert [role["name"] for role in scoped.json()["token"]["roles"]] == ["member", "reader"]
    token = scoped.headers["X-Subject-Token"]
    listed = browser.get(f"{cloud.url}/v3/auth/projects", headers={"X-Auth-Token": token}, timeout=30).json()
    assert [project["name"] for project in listed["projects"]] == ["work"]
    assert listed["links"]["self"] == f"{cloud.url}/v3/auth/projects"
    again = browser.get(cloud.url + AUTH, timeout=30)
    assert (again.status_code, again.json()["token"]["user"]["id"]) == (201, user["id"]), "the session at Apache goes on"


def test_a_wrong_password_leads_nowhere(cloud):
    assert cloud.log_in(cloud.browser(), AUTH, "alice", "wrong").status_code == 401


def test_names_with_letters_of_all_kinds(cloud):
    answer = cloud.log_in(cloud.browser(), AUTH, "bob", "bob-pw")
    user = answer.json()["token"]["user"]
    assert (user["name"], user["OS-FEDERATION"]["groups"]) == ("böb", []), cloud.apache.log


@pytest.mark.parametrize("path", ["/v3/auth/OS-FEDERATION/websso/openid", "/identity/v3/auth/OS-FEDERATION/identity_providers/corporate/protocols/openid/websso"])
def test_a_dashboard_gets_a_token_by_the_browser(cloud, path):
    answer = cloud.log_in(cloud.browser(), f"{path}?origin={DASHBOARD}", "alice", "alice-pw")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8"), answer.text
    assert f'action="{DASHBOARD}"' in answer.text
    token = re.search(r'name="token" value="([^"]+)"', answer.text).group(1)
    assert rescoped(cloud, token).status_code == 201


def test_an_access_token_is_enough(cloud):
    browser = cloud.browser()
    grant = {"grant_type": "password", "username": "alice", "password": "alice-pw", "client_id": CLIENT, "client_secret": SECRET}
    token = browser.post(f"{cloud.provider.issuer}/token", data=grant, timeout=30).json()["access_token"]
    answer = browser.post(cloud.url + AUTH, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert (answer.status_code, answer.json()["token"]["user"]["name"]) == (201, "alice"), cloud.apache.log
    refused = cloud.browser().post(cloud.url + AUTH, headers={"Authorization": "Bearer rubbish"}, allow_redirects=False, timeout=30)
    assert refused.status_code == 401


LIES = {
    "OIDC-sub": "u-1",
    "OIDC-preferred_username": "alice",
    "OIDC-email": "alice@example.org",
    "OIDC-groups": "staff",
    "OIDC-iss": "{issuer}",
}
LIES |= {name.replace("-", "_"): value for name, value in LIES.items()}


@pytest.mark.parametrize("voucher", [{}, {"X-Assertion": "wrong-secret-0123456 OIDC-"}, {"X-Assertion": "change-me-0123456789 OIDC-"}])
def test_headers_of_a_client_count_for_nothing_where_apache_protects_nothing(cloud, voucher):
    """Even to who has got hold of the secret: Apache takes X-Assertion away."""
    headers = {name: value.format(issuer=cloud.provider.issuer) for name, value in LIES.items()} | voucher
    section = {"identity_provider": "corporate", "protocol": "openid"}
    auth = {"auth": {"identity": {"methods": ["mapped"], "mapped": section}}}
    answer = cloud.browser().post(f"{cloud.url}/v3/auth/tokens", json=auth, headers=headers, timeout=30)
    assert answer.status_code == 401
    other = cloud.browser().get(f"{cloud.url}{AUTH.replace('openid', 'saml2')}", headers=headers, timeout=30)
    assert other.status_code == 401


def test_headers_of_a_client_do_not_change_who_has_logged_in(cloud):
    headers = {name: value.format(issuer=cloud.provider.issuer) for name, value in LIES.items()}
    answer = cloud.log_in(cloud.browser(), AUTH, "bob", "bob-pw", **headers)
    assert answer.status_code == 201, (answer.text, cloud.apache.log)
    assert answer.json()["token"]["user"]["name"] == "böb"
    assert answer.json()["token"]["user"]["OS-FEDERATION"]["groups"] == []


def stock(cloud, options, *arguments):
    """What the stock client answers."""
    command = [str(OPENSTACK), *(part for name, value in options.items() for part in (f"--os-{name}", value))]
    done = subprocess.run([*command, *arguments, "-f", "json"], capture_output=True, text=True, env=clean(), timeout=120)
    assert done.returncode == 0, done.stderr + cloud.apache.log
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["v3oidcpassword", "v3oidcaccesstoken"])
def test_the_stock_client_logs_in(cloud, kind):
    options = {
        "auth-type": kind,
        "auth-url": f"{cloud.url}/v3",
        "identity-provider": "corporate",
        "protocol": "openid",
        "project-name": "work",
        "project-domain-name": "Default",
        "cacert": cloud.ca,
    }
    if kind == "v3oidcpassword":
        found = f"{cloud.provider.issuer}/.well-known/openid-configuration"
        options |= {"client-id": CLIENT, "client-secret": SECRET, "discovery-endpoint": found, "username": "alice", "password": "alice-pw"}
    else:
        options["access-token"] = cloud.provider.access_token("alice")
    issued = stock(cloud, options, "token", "issue")
    shown = cloud.identity.validate(issued["id"]).json["token"]
    assert (shown["user"]["name"], shown["project"]["id"]) == ("alice", issued["project_id"])
    assert shown["user"]["OS-FEDERATION"]["identity_provider"] == {"id": "corporate"}


COMMANDS = """
cat > rules.json <<'EOF'
[{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-sub"}]}]
EOF
openstack identity provider create other --domain default --description d --disable --authorization-ttl 10
openstack identity provider set other --enable --remote-id https://a --remote-id https://b --description e
openstack mapping create other --rules rules.json --schema-version 2.0
openstack mapping set other --rules rules.json --schema-version 1.0
openstack federation protocol create mapped --identity-provider other --mapping corporate
openstack federation protocol set mapped --identity-provider other --mapping other || true  # the client takes its own answer for an error
openstack federation protocol show mapped --identity-provider other -f value -c mapping
openstack federation protocol list --identity-provider other -f value
openstack identity provider show other -f value -c remote_ids -c description
openstack identity provider list -f value -c ID
openstack mapping list -f value -c ID
openstack federation protocol delete mapped --identity-provider other
openstack mapping delete other
openstack identity provider delete other
"""


def test_the_stock_client_knows_every_command(cloud, tmp_path):
    done = administer(cloud.url, cloud.ca, COMMANDS, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mapped other" in done.stdout
    assert cloud.identity("GET", "/OS-FEDERATION/identity_providers/other").status == 404


# Client certificates ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def robot(cloud, tmp_path_factory):
    """A user of the cloud with a certificate: (user, options of the stock client, file with certificate, file with key)."""
    who, project, _token = cloud.identity.member("robot")
    cloud.identity("PATCH", f"/users/{who['id']}", {"user": {"default_project_id": project["id"]}}, ok=200)
    rules = [{"local": [{"user": {"id": "{0}"}}], "remote": [{"type": "SSL_CLIENT_SUBJECT_DN_CN"}]}]
    cloud.identity("PUT", "/OS-FEDERATION/mappings/oauth2_mapping", {"mapping": {"rules": rules}}, ok=201)
    folder = tmp_path_factory.mktemp("robot")
    key, request = new_request("robot")
    (folder / "key.pem").write_bytes(key)
    (folder / "cert.pem").write_bytes(cloud.clients.client(who["id"], request, 1).pem)
    options = {
        "auth-type": "v3oauth2mtlsclientcredential",
        "auth-url": f"{cloud.url}/v3",
        "oauth2-endpoint": f"{cloud.url}/v3/OS-OAUTH2/token",
        "oauth2-client-id": who["id"],
        "cacert": cloud.ca,
        "cert": str(folder / "cert.pem"),
        "key": str(folder / "key.pem"),
    }
    return who, options, (options["cert"], options["key"])


def bound_token(cloud, who, shown):
    form = {"grant_type": "client_credentials", "client_id": who["id"]}
    return cloud.browser().post(f"{cloud.url}/v3/OS-OAUTH2/token", data=form, cert=shown, timeout=30)


def test_the_stock_client_works_with_a_certificate(cloud, robot):
    who, options, _shown = robot
    found = stock(cloud, options, "user", "show", who["id"])
    assert (found["id"], found["name"]) == (who["id"], "robot")


def test_a_token_is_bound_to_the_certificate_that_apache_has_checked(cloud, robot):
    who, _options, shown = robot
    answer = bound_token(cloud, who, shown)
    assert answer.status_code == 200, (answer.text, cloud.apache.log)
    headers = {"X-Auth-Token": answer.json()["access_token"]}
    here = f"{cloud.url}/identity/v3/auth/projects"
    assert cloud.browser().get(here, headers=headers, cert=shown, timeout=30).status_code == 200
    assert cloud.browser().get(here, headers=headers, timeout=30).status_code == 401
    forged = {**headers, "SSL-Client-Cert": pathlib.Path(shown[0]).read_text().replace("\n", " "), "X-Assertion": "change-me-0123456789 SSL-Client-Cert"}
    assert cloud.browser().get(here, headers=forged, timeout=30).status_code == 401


def test_without_a_certificate_nobody_is_a_client(cloud, robot):
    who, _options, _shown = robot
    assert bound_token(cloud, who, None).status_code == 401
