"""keystoneauth logs in with several methods, in one part and in two, against identity on loopback."""

from __future__ import annotations

import json
import pathlib
import socketserver
import subprocess
import threading
import wsgiref.simple_server

import pytest

from tests.api.identity.test_multi_factor import RULES, SECRET, code, with_totp
from tests.api.identity.world import Identity
from tests.databases import missing

CLIENTS = pathlib.Path(__file__).parents[3] / ".build/clients/bin/python"
SCRIPT = r"""
import json, sys
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

url, user, passcodes = sys.argv[1], sys.argv[2], sys.argv[3:]
told = {}
whole = v3.MultiFactor(url, auth_methods=["v3password", "v3totp"], user_id=user, password="ann-secret", passcode=passcodes[0], unscoped=True)
told["whole"] = whole.get_access(session.Session()) is not None
try:
    v3.Password(url, user_id=user, password="ann-secret", unscoped=True).get_token(session.Session())
except exceptions.MissingAuthMethods as part:
    told["part"] = [part.methods, part.required_auth_methods, bool(part.expires_at)]
    rest = v3.TOTP(url, passcodes[1], user_id=user, unscoped=True)
    rest.add_method(v3.ReceiptMethod(receipt=part.receipt))
    access = rest.get_access(session.Session())
    told["user"] = access.user_id
    again = v3.Token(url, access.auth_token, unscoped=True)
    told["methods"] = sorted(again.get_access(session.Session())._data["token"]["methods"])
try:
    v3.TOTP(url, passcodes[1], user_id=user, unscoped=True).get_token(session.Session())
except exceptions.MissingAuthMethods:
    told["replayed"] = "a receipt"
except exceptions.Unauthorized:
    told["replayed"] = "refused"
print(json.dumps(told))
"""


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_args):
        pass


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


def test_keystoneauth_with_several_methods(tmp_path):
    if not CLIENTS.exists():
        missing("keystoneauth1")
    # Ten windows back: the passcodes below are good however slow the machine is. Each use ends what is older.
    identity = Identity(home=tmp_path, options={"totp_included_previous_windows": 10})
    ann = with_totp(identity, "ann", SECRET, options={"multi_factor_auth_rules": RULES})
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, identity.client.app, server_class=Server, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v3"
        run = [str(CLIENTS), "-c", SCRIPT, url, ann["id"], code(1), code(0)]
        found = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False, env={"NO_PROXY": "*"})
        assert found.returncode == 0, found.stderr
        told = json.loads(found.stdout)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)
        identity.client.close()
    assert told == {
        "whole": True,
        "part": [["password"], [["password", "totp"]], True],
        "user": ann["id"],
        "methods": ["password", "token", "totp"],
        "replayed": "refused",
    }
