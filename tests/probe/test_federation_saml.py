"""Two clouds and an Apache with mod_auth_mellon: users of one get tokens of the other, with the stock clients and by browser.

The configuration of all three is that of docs/operate/federation-saml.md, with other addresses.
"""

from __future__ import annotations

import dataclasses
import html.parser
import http.cookiejar
import json
import re
import shlex
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pileus.kernel import ids
from pileus.kernel.xml_signatures import new_pair
from tests.apache import Apache, folder
from tests.guest.stock import CLIENTS, User
from tests.saml_idp import IdentityProvider
from tools.cloud import TOP, Cloud, ThrowAway, free_port, run_here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CLIENTS / "openstack").exists(), reason="`make install` with the argument test installs the stock clients"),
]
PAGE = TOP / "docs/operate/federation-saml.md"
MODULES = ("headers", "proxy", "proxy_http", "auth_mellon")
AUTH = "/identity/v3/OS-FEDERATION/identity_providers/cloud-a/protocols/saml2/auth"
DASHBOARD = "http://dashboard.example/auth/websso/"
PAOS = "application/vnd.paos+xml"


def block(start: str) -> str:
    """The indented lines of the page from the one that begins with `start` to the next that is not indented."""
    lines = PAGE.read_text().splitlines()
    taken = []
    for line in lines[next(number for number, line in enumerate(lines) if line.startswith("    " + start)) :]:
        if line and not line.startswith("    "):
            break
        taken.append(line[4:])
    return "\n".join(taken).rstrip() + "\n"


def mellon(pileus: int) -> str:
    """The virtual host of the page, before a Pileus at this port, without TLS."""
    text = block("RequestHeader unset X-Assertion").replace("127.0.0.1:5000", f"127.0.0.1:{pileus}").replace("SECRET", SECRET)
    text = text.replace("/etc/apache2/mellon", "${DIRECTORY}")
    changed = text.replace("MellonSecureCookie On", "MellonSecureCookie Off")
    assert changed != text
    return changed


def prepared(directory: Path, metadata: bytes) -> None:
    for name in ("sp.key", "sp.pem"):
        (directory / name).write_bytes(PAIR)
    (directory / "idp.xml").write_bytes(metadata)


PAIR = new_pair("b.example")
SECRET = ids.password(32)


@dataclasses.dataclass
class Both:
    """Cloud A, where users log in; cloud B, where they work; what stands before it; and their administrators."""

    a: Cloud
    b: Cloud
    front: Apache
    at_a: User
    at_b: User


def commands(start: str, **replaced: str) -> list[list[str]]:
    """The openstack commands of a block of the page."""
    text = block(start).replace("\\\n", " ")
    for old, new in replaced.items():
        text = text.replace(f"https://{old}.example", new)
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("openstack ")]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    with ThrowAway(toml=block("[identity]")) as a, folder() as directory:
        port = free_port()
        toml = block("[api]").replace("https://b.example", f"http://127.0.0.1:{port}").replace("SECRET", SECRET)
        toml += f'[identity]\ntrusted_dashboard = ["{DASHBOARD}"]\n'
        with urllib.request.urlopen(f"http://127.0.0.1:{a.port}/identity/v3/OS-FEDERATION/saml2/metadata") as answer:
            prepared(directory, answer.read())
        with ThrowAway(toml=toml) as b, Apache(directory, MODULES, mellon(b.port), port=port) as front:
            at_a, at_b = User(run_here, a.variables()), User(run_here, b.variables())
            (rules := tmp_path_factory.mktemp("rules") / "rules.json").write_text(block('[{"local"'))
            for command in commands("openstack service provider create b", b=front.url):
                at_a.text(*command)
            for command in commands("openstack group create guests"):
                at_b.text(*[str(rules) if part == "rules.json" else part for part in command])
            at_a.text("project", "create", "research")
            at_a.text("user", "create", "--password", "secret-of-ada", "ada")
            at_a.text("role", "add", "--user", "ada", "--project", "research", "member")
            ada = at_a.as_user(OS_USERNAME="ada", OS_PASSWORD="secret-of-ada", OS_PROJECT_NAME="research")
            yield Both(a, b, front, ada, at_b)


REMOTE = ("--os-service-provider", "b", "--os-remote-project-name", "shared", "--os-remote-project-domain-name", "Default")


def test_a_user_of_one_cloud_works_in_the_other(both):
    shown = both.at_a(*REMOTE, "token", "issue")
    shared = both.at_b("project", "show", "shared")["id"]
    assert shown["project_id"] == shared
    body = validated(both, shown["id"])
    assert body["user"]["name"] == "ada"
    assert body["user"]["OS-FEDERATION"]["identity_provider"] == {"id": "cloud-a"}
    assert body["user"]["OS-FEDERATION"]["protocol"] == {"id": "saml2"}
    assert {role["name"] for role in body["roles"]} == {"member", "reader"}
    assert set(body["methods"]) == {"mapped", "token"}
    assert both.at_a(*REMOTE, "server", "list") == []


def validated(both: Both, token: str) -> dict[str, Any]:
    admin = both.at_b("token", "issue")["id"]
    headers = {"X-Auth-Token": admin, "X-Subject-Token": token}
    request = urllib.request.Request(f"{both.front.url}/identity/v3/auth/tokens", headers=headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["token"]


K2K = """
import json
from keystoneauth1 import session
from keystoneauth1.identity import v3
local = v3.Password({url!r}, username="ada", password="secret-of-ada", user_domain_id="default", project_name="research", project_domain_id="default")
remote = v3.Keystone2Keystone(local, "b", project_name="shared", project_domain_name="Default")
there = session.Session(auth=remote)
access = remote.get_access(there)
print(json.dumps([access.username, access.project_name, access.role_names, there.get_endpoint(service_type="identity", interface="public")]))
"""


def test_the_plugin_of_keystoneauth_gets_a_token_of_the_other_cloud(both):
    code = K2K.format(url=both.at_a.variables["OS_AUTH_URL"])
    user, project, roles, url = json.loads(run_here([CLIENTS / "python", "-c", code], env=both.at_a.variables, timeout=60).stdout)
    assert (user, project, sorted(roles)) == ("ada", "shared", ["member", "reader"])
    assert url.startswith(both.front.url)


class Client:
    """Follows nothing by itself and keeps cookies."""

    class _Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    def __init__(self) -> None:
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), self._Stay, cookies)

    def __call__(self, url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(urllib.request.Request(url, body, sent))

    def browse(self, url: str, body: bytes | None = None) -> tuple[int, bytes]:
        """As a browser does, which follows."""
        status, headers, page = self(url, body, **({"Content_Type": "application/x-www-form-urlencoded"} if body else {}))
        for _ in range(10):
            if status not in {302, 303}:
                break
            url = urllib.parse.urljoin(url, headers["Location"])
            status, headers, page = self(url)
        return status, page

    def send(self, request: urllib.request.Request) -> tuple[int, Any, bytes]:
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()


def envelope(both: Both, provider: str = "b") -> bytes:
    """What a client of ada's gets for a service provider."""
    token = both.at_a("token", "issue")["id"]
    auth = {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": {"service_provider": {"id": provider}}}
    url = both.at_a.variables["OS_AUTH_URL"] + "/auth/OS-FEDERATION/saml2/ecp"
    status, _headers, body = Client()(url, json.dumps({"auth": auth}).encode(), Content_Type="application/json")
    assert status == 200, body
    return body


def test_an_assertion_for_another_cloud_is_refused(both):
    other = ("--auth-url", both.front.url + AUTH, "--service-provider-url", "https://c.example/mellon/paosResponse", "c")
    User(run_here, both.a.variables()).text("service", "provider", "create", *other)
    place, its = envelope(both, "c"), f'Destination="{both.front.url}/mellon/paosResponse"'.encode()
    readdressed = place.replace(b'Destination="https://c.example/mellon/paosResponse"', its)  # which is not signed
    for body, why in ((place, "Invalid Destination"), (readdressed, "Wrong Recipient")):
        client = Client()
        assert client(f"{both.front.url}/mellon/paosResponse", body, Content_Type=PAOS)[0] >= 400
        assert client(both.front.url + AUTH)[0] == 303, "to where one logs in"
        assert why in both.front.log


def test_changed_assertions_are_worth_nothing(both):
    good = envelope(both)
    for old, new in ((b">ada<", b">eve<"), (b">research<", b">admin<"), (b"<saml:NameID", b"<saml:NameID x='1'")):
        bad = good.replace(old, new)
        assert bad != good
        client = Client()
        status, _headers, _body = client(f"{both.front.url}/mellon/paosResponse", bad, Content_Type=PAOS)
        assert status >= 400, new
        assert client(both.front.url + AUTH)[0] != 201
    client = Client()
    status, headers, _body = client(f"{both.front.url}/mellon/paosResponse", good, Content_Type=PAOS)
    assert (status, headers["Location"].startswith("/#")) == (303, True)
    status, headers, body = client(both.front.url + AUTH)
    assert (status, json.loads(body)["token"]["user"]["name"]) == (201, "ada")
    assert headers["X-Subject-Token"]


def test_what_a_client_says_of_itself_is_not_believed(both):
    told = {
        "MELLON-IDP": "https://a.example/identity/v3/OS-FEDERATION/saml2/idp",
        "MELLON-openstack-user": "eve",
        "MELLON-openstack-project": "research",
        "MELLON-openstack-project-domain": "Default",
        "X-Assertion": "MELLON-",
    }
    auth = {"identity": {"methods": ["mapped"], "mapped": {"identity_provider": "cloud-a", "protocol": "saml2"}}}
    posted = json.dumps({"auth": auth}).encode()
    for headers in (told, {name.replace("-", "_"): value for name, value in told.items()}):
        for url, body in ((AUTH, None), (AUTH + "/", None), ("/identity/v3/auth/tokens", posted), (AUTH.replace("saml2", "%73aml2"), None)):
            request = urllib.request.Request(both.front.url + url, body, {**headers, "Content-Type": "application/json"})
            status, _headers, answer = Client().send(request)
            assert status not in {200, 201}, (url, answer)
    assert "eve" not in {user["Name"] for user in both.at_b("user", "list")}
    client = Client()  # who has logged in cannot add to it either
    client(f"{both.front.url}/mellon/paosResponse", envelope(both), Content_Type=PAOS)
    for headers in ({"MELLON-OPENSTACK-USER": "eve"}, {"MELLON_OPENSTACK_USER": "eve"}, {"Mellon_openstack-User": "eve"}):
        status, _headers, body = client.send(urllib.request.Request(both.front.url + AUTH, None, headers))
        assert status != 201 or json.loads(body)["token"]["user"]["name"] == "ada", headers


def test_users_whom_the_mapping_does_not_name_stay_outside(both):
    admin = User(run_here, both.a.variables())
    refused = admin.refused(*REMOTE, "token", "issue")
    assert "400" in refused
    admin.text("service", "provider", "set", "--disable", "b")
    try:
        both.at_a.refused(*REMOTE, "token", "issue")
        with pytest.raises(AssertionError, match="Service Provider b is disabled"):
            envelope(both)
    finally:
        admin.text("service", "provider", "set", "--enable", "b")
    assert both.at_a(*REMOTE, "token", "issue")["id"]


# Browsers --------------------------------------------------------------------------------------------------------------


class Form(html.parser.HTMLParser):
    """The form of a page: where it goes, and its hidden fields."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.action, self.fields = "", {}
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "form":
            self.action = told["action"] or ""
        elif tag == "input" and told.get("name"):
            self.fields[told["name"]] = told.get("value") or ""

    @property
    def body(self) -> bytes:
        return urllib.parse.urlencode(self.fields).encode()


RULES = [
    {
        "local": [{"user": {"name": "{0}"}, "group": {"name": "guests", "domain": {"name": "Default"}}}],
        "remote": [{"type": "MELLON_uid"}, {"type": "MELLON_affiliation", "any_one_of": ["staff"]}],
    }
]


@pytest.fixture(scope="module")
def campus(both, tmp_path_factory):
    """An identity provider for browsers, and another Apache before cloud B that believes it."""
    with IdentityProvider() as idp, folder() as directory:
        prepared(directory, idp.metadata)
        config = re.sub(r"openstack_user\b", "uid", mellon(both.b.port)).replace("OPENSTACK-USER ", "UID ")
        config = config.replace("openstack_roles", "affiliation").replace("OPENSTACK-ROLES", "AFFILIATION")
        (rules := tmp_path_factory.mktemp("campus") / "rules.json").write_text(json.dumps(RULES))
        both.at_b.text("mapping", "create", "from-campus", "--rules", rules)
        both.at_b.text("identity", "provider", "create", "campus", "--remote-id", idp.entity_id)
        both.at_b.text("federation", "protocol", "create", "saml2", "--identity-provider", "campus", "--mapping", "from-campus")
        with Apache(directory, MODULES, config) as portal:
            yield idp, portal


def login(portal: Apache, path: str = "websso/saml2") -> tuple[int, bytes]:
    """A browser that wants to go to the dashboard; its user sends the form of the identity provider. What is shown then."""
    client = Client()
    origin = urllib.parse.quote(DASHBOARD, safe="")
    status, page = client.browse(f"{portal.url}/identity/v3/auth/OS-FEDERATION/{path}?origin={origin}")
    form = Form(page)
    assert (status, form.action) == (200, f"{portal.url}/mellon/postResponse"), portal.log
    return client.browse(form.action, form.body)


@pytest.mark.parametrize("path", ["websso/saml2", "identity_providers/campus/protocols/saml2/websso"])
def test_a_browser_logs_in_at_its_organization_and_brings_the_dashboard_a_token(both, campus, path):
    idp, portal = campus
    idp.person = ("linus", {"uid": ["linus"], "affiliation": ["student", "staff"]})
    status, page = login(portal, path)
    form = Form(page)
    assert (status, form.action) == (200, DASHBOARD)
    body = validated(both, form.fields["token"])
    assert (body["user"]["name"], body["user"]["OS-FEDERATION"]["identity_provider"]) == ("linus", {"id": "campus"})
    assert "project" not in body, "the dashboard asks for the scope"


def test_who_is_nobody_here_gets_no_token(campus):
    idp, portal = campus
    idp.person = ("linus", {"uid": ["linus"], "affiliation": ["student"]})
    assert login(portal)[0] == 400


def test_an_answer_that_was_changed_logs_nobody_in(campus):
    idp, portal = campus
    idp.person = ("linus", {"uid": ["linus"], "affiliation": ["staff"]})
    before = idp.spoil
    try:
        idp.spoil = lambda response: response.replace(b"<saml:AttributeValue>linus<", b"<saml:AttributeValue>admin<")
        status, page = login(portal)
        assert status >= 400
        assert b"token" not in page
    finally:
        idp.spoil = before
