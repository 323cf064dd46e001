"""A small OpenID provider for tests.

    with Provider(certificate) as provider: ...

It listens on loopback alone and ends with the block. It knows the people of `PEOPLE`; it speaks the code flow (with a
form to log in), the password grant, and tells what access tokens are worth.
"""

from __future__ import annotations

import base64
import html
import http.server
import json
import pathlib
import secrets
import ssl
import threading
import time
import urllib.parse
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT, SECRET = "pileus", "client-secret"
PEOPLE: dict[str, dict[str, Any]] = {
    "alice": {"password": "alice-pw", "claims": {"sub": "u-1", "preferred_username": "alice", "email": "alice@example.org", "groups": ["staff", "admins"]}},
    "bob": {"password": "bob-pw", "claims": {"sub": "u-2", "preferred_username": "böb", "email": "bob@example.org", "groups": ["guests"]}},
}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Provider:
    """The OpenID provider; `issuer` is its URL. `certificate` is a file with private key and chain."""

    def __init__(self, certificate: pathlib.Path) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, str] = {}  # who has an access token
        provider = self

        class Handler(_Handler):
            owner = provider

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.issuer = f"https://localhost:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(10)

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "introspection_endpoint": f"{self.issuer}/introspect",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        return {"keys": [{"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": _b64(modulus), "e": _b64(numbers.e.to_bytes(3, "big"))}]}

    def id_token(self, who: str, nonce: str) -> str:
        now = int(time.time())
        claims = {**PEOPLE[who]["claims"], "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce}
        signed = ".".join(_b64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1", "typ": "JWT"}, claims))
        return f"{signed}.{_b64(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def access_token(self, who: str) -> str:
        token = secrets.token_urlsafe(16)
        self.tokens[token] = who
        return token


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: Provider
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        return

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        match parts.path:
            case "/.well-known/openid-configuration":
                self._json(200, self.owner.metadata())
            case "/jwks":
                self._json(200, self.owner.jwks())
            case "/userinfo" if bearer in self.owner.tokens:
                self._json(200, PEOPLE[self.owner.tokens[bearer]]["claims"])
            case "/authorize" if query.get("client_id") == CLIENT and query.get("response_type") == "code":
                hidden = "".join(f'<input type="hidden" name="{name}" value="{html.escape(query.get(name, ""))}">' for name in ("redirect_uri", "state", "nonce"))
                self._answer(200, f'<form method="post" action="{self.owner.issuer}/login">{hidden}<input name="username"><input name="password"></form>'.encode(), "text/html")
            case _:
                self._json(404, {"error": "not_found"})

    def do_POST(self) -> None:
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()))
        match self.path:
            case "/login" if self._knows(form):
                code = secrets.token_urlsafe(16)
                self.owner.codes[code] = {"who": form["username"], "nonce": form["nonce"]}
                told = urllib.parse.urlencode({"code": code, "state": form["state"]})
                self._answer(302, b"", "text/plain", Location=f"{form['redirect_uri']}?{told}")
            case "/token" if self._is_client(form):
                self._token(form)
            case "/introspect" if self._is_client(form):
                who = self.owner.tokens.get(form.get("token", ""))
                self._json(200, {"active": True, "iss": self.owner.issuer, "exp": int(time.time()) + 300, **PEOPLE[who]["claims"]} if who else {"active": False})
            case _:
                self._json(401, {"error": "access_denied"})

    def _token(self, form: dict[str, str]) -> None:
        answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": 300}
        if form.get("grant_type") == "authorization_code" and (login := self.owner.codes.pop(form.get("code", ""), None)):
            self._json(200, {**answer, "access_token": self.owner.access_token(login["who"]), "id_token": self.owner.id_token(login["who"], login["nonce"])})
        elif form.get("grant_type") == "password" and self._knows(form):
            self._json(200, {**answer, "access_token": self.owner.access_token(form["username"])})
        else:
            self._json(400, {"error": "invalid_grant"})

    def _knows(self, form: dict[str, str]) -> bool:
        person = PEOPLE.get(form.get("username", ""))
        return person is not None and person["password"] == form.get("password")

    def _is_client(self, form: dict[str, str]) -> bool:
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {basic}" or (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)

    def _json(self, status: int, body: Any) -> None:
        self._answer(status, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
