"""A cloud of processes and a real directory: the example of the documentation, and a directory that is killed and frozen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.databases import missing
from tests.directories import GROUPS, PEOPLE, SUFFIX, Slapd
from tests.probe.probed import wait_until
from tests.sandbox import TOP

CLIENTS = TOP / ".build/clients/bin"


@pytest.fixture(scope="module")
def directory():
    made = Slapd()
    made.add(f"cn=pileus,{SUFFIX}", "organizationalRole", "simpleSecurityObject", cn="pileus", userPassword="SECRET")
    alice = made.add_person("alice", "wonderland")
    made.add_person("bob", "builder")
    made.add_group("developers", alice)
    yield made
    made.close()


@pytest.fixture(scope="module")
def example(probed, directory):
    """What docs/operate/ldap.md says, done word by word; the last answer."""
    if not (CLIENTS / "openstack").exists():
        missing("the stock OpenStack clients")
    text = (TOP / "docs/operate/ldap.md").read_text()
    script = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    for name, here in (("ldaps://ldap.example.org", directory.tls_url), ("/etc/ssl/certs/example-ca.pem", str(directory.ca))):
        assert name in script
        script = script.replace(name, here)
    environment = {**os.environ, **probed.cloud.variables("admin"), "PATH": f"{CLIENTS}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def login(probed, name, password, domain="acme", timeout=10, **scope):
    who = {"name": name, "domain": {"name": domain}, "password": password}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, **scope}}
    return ask(probed, "POST", "/auth/tokens", body, timeout=timeout)


def ask(probed, method, path, body=None, token="", timeout=10):
    request = urllib.request.Request(f"http://127.0.0.1:{probed.cloud.port}/identity/v3{path}", method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("X-Auth-Token", token)
        request.add_header("X-Subject-Token", token)
    try:
        with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None, timeout=timeout) as answer:
            return answer.status, answer.headers.get("X-Subject-Token")
    except urllib.error.HTTPError as error:
        return error.code, None


def test_the_example_of_the_documentation_works(example):
    for expected in ("alice", "bob", "developers", "project_id"):
        assert expected in example
    assert "SECRET" not in example


def test_a_killed_directory_stops_its_logins_and_nothing_else(probed, directory, example):
    status, token = login(probed, "alice", "wonderland")
    assert status == 201
    directory.kill()
    try:
        for _ in range(6):
            assert login(probed, "alice", "wonderland")[0] == 503
        assert ask(probed, "GET", "/auth/tokens", token=token)[0] == 200
        assert ask(probed, "GET", "/auth/projects", token=token)[0] == 200
        assert login(probed, "admin", probed.cloud.variables("admin")["OS_PASSWORD"], "Default")[0] == 201
    finally:
        directory.start()
    wait_until(lambda: login(probed, "alice", "wonderland")[0] == 201, "it is used again")


def test_a_frozen_directory_delays_few_and_stops_nobody_else(probed, directory, example):
    configure(probed, {"pool_connection_timeout": 1, "connection_timeout": 1})
    directory.freeze()

    def at_once():
        began = time.monotonic()
        assert login(probed, "alice", "wonderland")[0] == 503
        return time.monotonic() - began < 0.5

    try:
        wait_until(at_once, "nobody waits for it any more")
        assert login(probed, "admin", probed.cloud.variables("admin")["OS_PASSWORD"], "Default")[0] == 201
    finally:
        directory.thaw()
    wait_until(lambda: login(probed, "alice", "wonderland")[0] == 201, "it is used again")


def test_who_is_locked_in_the_directory_loses_the_token_by_the_loop(probed, directory, example):
    status, token = login(probed, "bob", "builder")
    assert status == 201
    directory.change(f"uid=bob,{PEOPLE}", enabled="FALSE")
    directory.change(f"cn=developers,{GROUPS}", member=[f"uid=bob,{PEOPLE}"])
    configure(probed, {"page_size": 400})  # after which the loop comes at once
    wait_until(lambda: ask(probed, "GET", "/auth/tokens", token=token)[0] in {401, 404}, "the token ends")
    assert login(probed, "bob", "builder")[0] == 401


def configure(probed, options):
    _status, admin = login(probed, "admin", probed.cloud.variables("admin")["OS_PASSWORD"], "Default", scope={"system": {"all": True}})
    request = urllib.request.Request(f"http://127.0.0.1:{probed.cloud.port}/identity/v3/domains?name=acme", headers={"X-Auth-Token": admin})
    with urllib.request.urlopen(request, timeout=10) as answer:
        domain = json.loads(answer.read())["domains"][0]["id"]
    assert ask(probed, "PATCH", f"/domains/{domain}/config/ldap", {"config": {"ldap": options}}, token=admin)[0] == 200
