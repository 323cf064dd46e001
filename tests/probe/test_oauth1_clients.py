"""OAuth 1.0 with what users have: the `openstack` command and keystoneauth's plugin, against a listener on the loopback.

The clients leave oauthlib to be installed apart; they are lent that of the tests.
"""

from __future__ import annotations

import json
import os
import pathlib
import socketserver
import subprocess
import threading
import wsgiref.simple_server

import oauthlib
import pytest

from tests.api.identity.world import PASSWORD, Identity

CLIENTS = pathlib.Path(__file__).resolve().parents[2] / ".build/clients/bin"


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_arguments):
        pass


@pytest.fixture
def cloud(tmp_path):
    """(identity, run): a real listener below /identity, and one client command against it."""
    identity = Identity(home=tmp_path / "home")

    def mounted(environ, start_response):
        environ["SCRIPT_NAME"] = "/identity"
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/identity")
        return identity.client.app(environ, start_response)

    server = wsgiref.simple_server.make_server("127.0.0.1", 0, mounted, _Server, _Quiet)
    url = f"http://127.0.0.1:{server.server_port}/identity"
    for endpoint in identity("GET", f"/endpoints?service_id={identity('GET', '/services?type=identity').json['services'][0]['id']}").json["endpoints"]:
        identity("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"url": url}}, ok=200)
    (tmp_path / "lent").mkdir()
    (tmp_path / "lent" / "oauthlib").symlink_to(pathlib.Path(oauthlib.__file__).parent)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(*arguments, **changes):
        variables = {
            "OS_AUTH_URL": url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": "admin",
            "OS_PASSWORD": PASSWORD,
            "OS_PROJECT_NAME": "admin",
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "PYTHONPATH": str(tmp_path / "lent"),
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "no_proxy": "*",
            **changes,
        }
        done = subprocess.run(
            [CLIENTS / arguments[0], *arguments[1:]], env={k: v for k, v in variables.items() if v}, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield identity, run
    server.shutdown()
    server.server_close()
    identity.client.close()


SCRIPT = """
import json, sys
from keystoneauth1 import session
from keystoneauth1.extras.oauth1.v3 import OAuth1
url, *keys = sys.argv[1:]
found = []
for catalog in (True, False):
    plugin = OAuth1(url + "/v3", *keys, include_catalog=catalog)
    opened = session.Session(plugin)
    access = plugin.get_access(opened)
    found.append([access.oauth_access_token_id, access.oauth_consumer_id, access.project_id, access.role_names, access.has_service_catalog()])
print(json.dumps(found))
"""


def test_the_openstack_command_and_keystoneauth(cloud):
    identity, run = cloud

    def openstack(*arguments):
        return json.loads(run("openstack", *arguments, "-f", "json"))

    consumer = openstack("consumer", "create", "--description", "robot")
    run("openstack", "consumer", "set", "--description", "a robot", consumer["id"])
    assert openstack("consumer", "show", consumer["id"])["description"] == "a robot"
    keys = ("--consumer-key", consumer["id"], "--consumer-secret", consumer["secret"])
    request = openstack("request", "token", "create", *keys, "--project", "admin")
    verifier = openstack("request", "token", "authorize", "--request-key", request["key"], "--role", "member")["oauth_verifier"]
    asked = ("--request-key", request["key"], "--request-secret", request["secret"], "--verifier", verifier)
    access = openstack("access", "token", "create", *keys, *asked)
    url = next(one["url"] for one in identity("GET", "/endpoints").json["endpoints"] if "127.0.0.1" in one["url"])
    found = json.loads(run("python", "-c", SCRIPT, url, consumer["id"], consumer["secret"], access["key"], access["secret"]))
    project = identity.ids["admin_project"]
    assert found == [
        [access["key"], consumer["id"], project, ["member", "reader"], True],
        [access["key"], consumer["id"], project, ["member", "reader"], False],
    ]
    run("openstack", "consumer", "delete", consumer["id"])
    assert json.loads(run("openstack", "consumer", "list", "-f", "json")) == []
