"""Tokens of nodes, what a join leaves on the machine, and who is believed."""

from __future__ import annotations

import http.server
import json
import ssl
import threading

import pytest

from pileus.cli.join import Token, record, trusted_authority
from pileus.cli.session import load_config
from pileus.cli.terminal import Problem
from pileus.kernel.certificates import Authority, fingerprint
from pileus.server import rooms
from pileus.server.secrets import node_login


def test_a_token_is_one_line_and_comes_back_whole():
    token = Token("https://cloud.example.org:5000", "ab" * 32, "cd" * 32)
    assert "\n" not in token.text()
    assert Token.parse(f"  {token.text()}\n") == token


@pytest.mark.parametrize("text", ["", "x", "e30=", "bnVsbA==", "eyJ1cmwiOiAxfQ==", "é", Token("http://plain", "a", "b").text()])
def test_what_is_no_token_is_refused_with_a_sentence(text):
    with pytest.raises(Problem, match="whole line"):
        Token.parse(text)


class Listener:
    """An API that says who it is, over TLS."""

    def __init__(self, folder, authority, says):
        key, chain = authority.server("c", ["127.0.0.1"])
        (folder / "key").write_bytes(key)
        (folder / "chain").write_bytes(chain)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(says)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "chain", folder / "key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_only_the_authority_that_the_token_names_is_believed(tmp_path):
    ours, other = Authority.make(), Authority.make()
    answer = json.dumps({"authority": {"certificate": ours.pem.decode()}}).encode()
    with Listener(tmp_path, ours, answer) as listener:
        assert trusted_authority(Token(listener.url, fingerprint(ours.pem), "s")) == ours.pem
        with pytest.raises(Problem, match="Nothing was sent"):
            trusted_authority(Token(listener.url, fingerprint(other.pem), "s"))
    for says in (b"", b"{}", b"[]", b'{"authority": {"certificate": "x"}}'):
        with Listener(tmp_path, ours, says) as listener, pytest.raises(Problem, match="no controller"):
            trusted_authority(Token(listener.url, fingerprint(ours.pem), "s"))
    with pytest.raises(Problem, match="does not answer"):
        trusted_authority(Token(listener.url, fingerprint(ours.pem), "s"))


def joined(home, *roles):
    """A machine that has joined with these roles."""
    settings = {
        "pileus": {"host": "one", "region": "RegionOne", "services": list(rooms.NAMES), "roles": list(roles)},
        "api": {"controller_url": "https://c:5000/"},
        "bus": {"url": "amqps://c:5671/", "quorum": False},
    }
    node = {"name": "one", "principal": "node-0123abcd-one", "roles": list(roles)}
    record(home, b"key", {"node": node, "given": {"settings": settings, "authority": "a", "certificate": "c", "password": "p"}})
    return load_config(home)


def test_what_a_join_leaves_is_a_whole_configuration_and_private(tmp_path):
    config = joined(tmp_path / "home", "compute")
    assert (config.host, config.internal_url, config.is_controller) == ("one", "https://c:5000", False)
    assert config.ca_file == config.bus.ca == str(tmp_path / "home/tls/ca.pem")
    assert (config.bus.url, config.bus.certificate) == ("amqps://c:5671/", str(tmp_path / "home/tls/node.pem"))
    login = node_login(config.home)
    assert (login.name, login.user, login.password) == ("one", "node-0123abcd-one", "p")
    for path in (tmp_path / "home").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_roles_say_whose_agents_run(tmp_path):
    agents = lambda config: [room.name for room in rooms.with_agents(config)]  # noqa: E731
    assert agents(joined(tmp_path / "a", "compute")) == ["network", "compute"], "guests need their host's networks"
    assert agents(joined(tmp_path / "b", "network")) == ["network"]
    assert agents(load_config(tmp_path / "c")) == ["network", "compute"], "a machine alone does everything"
    assert agents(load_config(tmp_path / "d", {"pileus": {"roles": ["controller"]}})) == []
