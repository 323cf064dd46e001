"""Requests that nobody foresaw, made from the OpenAPI document that the service itself gives out.

A `Fuzzer` is a stream of requests from a seed: each operation of the document with paths, queries, headers and bodies that fit,
nearly fit, or are abuse. `send` plays one against the WSGI application as the edge would and says what is wrong with the answer.
"""

from __future__ import annotations

import dataclasses
import io
import random
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import jsonschema
import orjson
from oauthlib.oauth1 import Client

from pileus.kernel.web.call import ASSERTION_KEY
from tests.api.identity.world import PASSWORD, Identity

TEXTS = [
    "", " ", "a", "x" * 64, "x" * 65, "x" * 255, "x" * 256, "x" * 300, "x" * 20_000, "é" * 30_000, "ü💥", "\u202e", "\x00", "a\x00b", "\x7f",
    "\r\nX-Evil: 1", "%00", "%", "_", "..", "../../etc/passwd", "'; DROP TABLE users; --", "$(project_id)s", "%(user_id)s", "null", "None", "-1",
    "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "http://[", "http://x/%(", "<a>&\"'",
]  # fmt: skip
NUMBERS = [0, -0.0, -1, 1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 1e308, 1e-320, 0.1]
JUNK = [
    b"", b" ", b"{", b"[]", b"null", b'""', b"0", b"{}", b"nan", b"Infinity", b"1e999", b'{"a": 1e999}', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"\x00", b'{"a": "\\u0000"}',
    b'{"a": "\\ud800"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\xc3\x28"}', b"[" * 100_000, b'{"a":' * 5_000, b'{"user": ' + b"[" * 900 + b"]" * 900 + b"}", b"9" * 5_000,
    b'{"a": ' + b"9" * 5_000 + b"}", b'{"a": 1, "a": {"b": 2}}', b"{" + b",".join(b'"k%d": 1' % n for n in range(5_000)) + b"}", b"x" * 200_000, b"<xml/>", b"a=1&b=%zz",
    b"grant_type=client_credentials&client_id=%00&client_secret=%00", b"grant_type=client_credentials&client_id=%ff&client_secret=x", b"grant_type=%F0%9F%92%A5",
]  # fmt: skip
TYPES = ["application/json", "application/json; charset=utf-16", "application/x-www-form-urlencoded", "text/xml", "text/plain", "", ";", "application/json-patch+json", "a" * 5_000, "\xff/\xfe"]
QUERIES = [
    "limit=-1", "limit=", "limit=1&limit=2", "limit=99999999999999999999999", "limit=1.5", "limit=%D9%A3", "limit=1&marker=unknown", "marker=%00", "limit=2&marker=", "marker=" + "x" * 300,
    "name=%FF%FE", "name=" + "%F0%9F%92%A5" * 100, "name__contains=%25_%5C", "name__regex=(", "name__", "__name=1", "name__icontains=&name=a&name=b", "=", "&&&=&", "%", "%zz=%zz", "a" * 5_000,
    "enabled=maybe", "enabled", "domain_id=&parent_id=", "tags=,,,&not-tags=x", "user.id=a&group.id=b", "effective&include_names&include_subtree", "scope.project.id=x&scope.domain.id=y",
    "scope.system=all&effective", "include_subtree&scope.project.id=", "role.id=%00", "since=yesterday", "since=9999-99-99T00:00:00Z", "since=%2B999999-01-01", "nocatalog&allow_expired=1",
    "parents_as_list&parents_as_ids", "subtree_as_ids&parents_as_ids", "password_expires_at=lt:2016", "password_expires_at=gt:2016-11-06T15:32:17Z", "password_expires_at=x:y", "type=%E2%80%AE",
    "region_id=" + "9" * 300, "trustor_user_id=&trustee_user_id=", "sort=name:sideways", "fields=id", "page=2&page_size=0", "%00=1", "name=%ED%A0%80",
]  # fmt: skip
CONFIGS = [
    {"ldap": {"url": "ldap://127.0.0.1:1", "page_size": 10}}, {"identity": {"list_limit": 3}}, {"url": "ldap://127.0.0.1:2"}, {"page_size": 5}, {"list_limit": 10},
    {"identity": {"driver": "sql"}, "ldap": {"user": "cn=%(password)s", "password": "s"}},
]  # fmt: skip
TOKENS = ["", " ", "garbage", "\xff\xfe\xfd", "gAAAAAB", "gAAAAA" + "A" * 200, "." * 3, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "x" * 70_000, "a b", "Bearer x"]
NAMED = {
    "trustor_user_id": "user_id", "trustee_user_id": "user_id", "default_project_id": "project_id", "parent_id": "project_id", "tenant_id": "project_id", "id": "user_id",
    "prior_role_id": "role_id", "implied_role_id": "role_id", "parent_region_id": "region_id", "idp_id": "identity_provider_id", "sp_id": "service_provider_id",
}  # fmt: skip
RULES = [{"local": [{"user": {"name": "{0}"}, "groups": "{1}", "domain": {"id": "default"}}], "remote": [{"type": "OIDC-name"}, {"type": "OIDC-groups"}]}]
"""Of a mapping: their form is checked by code and not by a schema."""
ASSERTIONS = [{"HTTP_OIDC_NAME": "ann", "HTTP_OIDC_GROUPS": "fuzzed"}, {"HTTP_OIDC_NAME": "x" * 300, "HTTP_OIDC_GROUPS": ";;"}, {"HTTP_REMOTE_USER": "\x00"}, {"HTTP_SSL_CLIENT_CERT": "MAAA"}]
"""What a trusted proxy says."""
FAULT = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "title": {"type": "string"}},
            "required": ["code", "message", "title"],
        }
    },
    "required": ["error"],
}
OTHER_FAULTS = ("/v3/OS-OAUTH2/", "/v3/OS-OAUTH1/")
"""Paths whose errors have the form of an RFC."""


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str  # of the document, with parameters in braces
    target: str  # as on the request line
    who: str
    headers: dict[str, str]
    body: bytes
    assertion: dict[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.who}: {self.method} {self.target[:300]} {({k: v[:60] for k, v in self.headers.items()})} {self.body[:600]!r}"


class Fuzzer:
    """`requests()` for ever. What is made on the way is used by later requests; who asks is never made to go."""

    def __init__(self, identity: Identity, seed: int) -> None:
        self.identity = identity
        self.random = random.Random(seed)
        self.document = identity.client.get("/openapi.json", as_=None).json
        self.operations = [
            (method.upper(), path, described)
            for path, methods in self.document["paths"].items()
            for method, described in methods.items()
            if path != "/openapi.json"
        ]
        self.ids: dict[str, list[str]] = {}
        self.tokens = {"admin": identity.admin, "nobody": ""}
        self._people()
        self.seen: dict[str, set[int]] = {}
        self.calm = False

    def _people(self) -> None:
        made = self.identity
        user, project, self.tokens["member"] = made.member("fuzzed")
        victim, theirs, self.victim = made.member("victim")
        self.remember("user_id", victim["id"])
        self.remember("project_id", theirs["id"])
        self.remember("domain_id", made.make("domain", name="fuzzed")["id"])
        self.remember("group_id", made.make("group", name="fuzzed")["id"])
        self.remember("role_id", made.make("role", name="fuzzed")["id"])
        for name, known in {"group": ("ldap", "identity"), "option": ("url", "page_size", "list_limit")}.items():
            for one in known:
                self.remember(name, one)
        self.own = {"user_id": user["id"], "project_id": project["id"]}
        consumer = made("POST", "/OS-OAUTH1/consumers", {"consumer": {}}, ok=201).json["consumer"]
        self.consumer = (consumer["id"], consumer["secret"])

    def remember(self, name: str, identifier: str) -> None:
        known = self.ids.setdefault(name, [])
        known.append(identifier)
        if len(known) > 20:
            known.pop(self.random.randrange(20))

    # Making requests --------------------------------------------------------------------------------------------------

    def requests(self) -> Iterator[Request]:
        while True:
            order = list(self.operations)
            self.random.shuffle(order)
            for method, path, described in order:
                yield self.request(method, path, described)

    def request(self, method: str, path: str, described: dict[str, Any]) -> Request:
        chance = self.random.random
        self.calm = chance() < 0.4  # a request that fits: without those nothing would be there to be abused
        who = "admin" if self.calm else self.random.choices(["admin", "member", "nobody"], [6, 3, 1])[0]
        target = path
        for parameter in described["parameters"]:
            if parameter["in"] == "path":
                value = self.identifier(parameter["name"], who)
                target = target.replace("{" + parameter["name"] + "}", value)
        if chance() < 0.4 and not self.calm:
            names = [one["name"] for one in described["parameters"] if one["in"] == "query"]
            query = self.random.choice(QUERIES)
            if names and chance() < 0.7:
                query += f"&{self.random.choice(names)}={quote(self.text(), safe='')}"
            target += "?" + query
        headers: dict[str, str] = {}
        if self.tokens[who]:
            headers["X-Auth-Token"] = self.tokens[who] if self.calm or chance() < 0.95 else self.random.choice(TOKENS)
        headers["X-Subject-Token"] = self.random.choice([self.victim, self.tokens["member"], *TOKENS])
        if method == "DELETE" and "/auth/tokens" in path:
            headers["X-Subject-Token"] = self.random.choice([self.victim, *TOKENS])
        if self.calm:
            headers["X-Subject-Token"] = self.victim
        elif chance() < 0.05:
            headers[self.random.choice(["X-Service-Token", "Authorization", "Accept", "OpenStack-API-Version", "X-OpenStack-Request-Id", "Host", "Prefer"])] = self.random.choice(
                [*TOKENS, "Basic " + "=" * 9, "Basic AAAA", "Basic eDp4", "OAuth realm=\"x\", oauth_nonce=\"%00\"", "*/*", "text/html;q=x"]
            )
        body = self.body(described, headers)
        if method == "POST" and path.startswith("/v3/OS-OAUTH1/") and path.endswith("_token") and (self.calm or chance() < 0.8):
            body = b"" if self.calm else body
            self.sign(target, headers)
        assertion = ASSERTIONS[0] if self.calm else self.random.choice([None, *ASSERTIONS])
        return Request(method, path, target, who, headers, body, assertion)

    def sign(self, target: str, headers: dict[str, str]) -> None:
        """As a consumer of OAuth 1.0; every now and then with something else in the header."""
        token = {"resource_owner_key": self.identifier("request_token_id", "admin"), "verifier": self.text()[:50]} if "access" in target else {"callback_uri": "oob"}
        method = "HMAC-SHA1" if self.calm else self.random.choice(["HMAC-SHA1", "HMAC-SHA256", "PLAINTEXT"])
        client = Client(self.consumer[0], client_secret=self.consumer[1], signature_method=method, nonce=str(self.random.getrandbits(64)), **token)
        header = client.sign("http://localhost:5000/identity" + target.partition("?")[0], http_method="POST")[1]["Authorization"]
        if not self.calm and self.random.random() < 0.5:
            at = self.random.randrange(len(header))
            header = header[:at] + self.random.choice(["%00", '"', ",", "=", "%ff", "é", " ", "x" * 5000]) + header[at + self.random.randrange(9) :]
        headers["Authorization"] = header
        headers["Requested-Project-Id"] = self.identifier("project_id", "admin")

    def identifier(self, name: str, who: str) -> str:
        known = self.ids.get(NAMED.get(name, name), [])
        if known and (self.calm or self.random.random() < 0.7):
            return quote(self.random.choice(known), safe="")
        if who == "member" and name in self.own and self.random.random() < 0.5:
            return self.own[name]
        if self.random.random() < 0.2 and not self.calm:
            return self.random.choice(["%FF%FE", "%00", "%C3%28", "%2E%2E", "%2F", "a%0Ab", "%ED%A0%80", "%F0%9F%92%A5", "f" * 32, "default", "a;b", "a:b", "~", "*", "x" * 256, "x" * 300])
        return quote(self.text()[:300], safe="") or "-"

    def text(self) -> str:
        if self.calm or self.random.random() < 0.6:
            return "".join(self.random.choices(string.ascii_lowercase + string.digits, k=self.random.randint(1, 12)))
        return self.random.choice(TEXTS)

    def body(self, described: dict[str, Any], headers: dict[str, str]) -> bytes:
        content = described.get("requestBody", {}).get("content")
        if content is None and (self.calm or self.random.random() < 0.9):
            return b""
        headers["Content-Type"] = "application/json" if self.calm or self.random.random() < 0.93 else self.random.choice(TYPES)
        if content is None or (not self.calm and self.random.random() < 0.1):
            return self.random.choice(JUNK)
        kind, described_body = self.random.choice(sorted(content.items()))
        if kind != "application/json":
            headers["Content-Type"] = self.random.choice([kind, "application/x-www-form-urlencoded"])
            if self.random.random() < 0.6:
                return self.random.choice(JUNK)
        value = self.value(described_body["schema"])
        try:
            return orjson.dumps(value)
        except TypeError:  # deeper than orjson writes
            return str(value).replace("'", '"').replace("True", "true").replace("None", "null").encode()

    def value(self, schema: dict[str, Any], name: str = "", depth: int = 0) -> Any:
        """Something for a schema; every now and then something else."""
        pick = self.random
        if pick.random() < 0.04 and not self.calm:
            return self.anything(depth)
        for alternatives in ("anyOf", "oneOf"):
            if alternatives in schema:
                return self.value(pick.choice(schema[alternatives]), name, depth)
        if name == "config":
            return pick.choice(CONFIGS)
        if "enum" in schema:
            return pick.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        if name == "rules" and (self.calm or pick.random() < 0.5):
            return RULES
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = pick.choice(kind) if isinstance(kind, list) else kind
        match kind:
            case "object":
                return self.object(schema, depth)
            case "array":
                inner = schema.get("items") or {}
                return [self.value(inner if isinstance(inner, dict) else {}, name, depth + 1) for _ in range(pick.choice([0, 1, 1, 2, 3]))]
            case "string":
                return self.string(schema, name)
            case "boolean":
                return pick.random() < 0.8
            case "integer":
                return pick.choice([1, 2, 10] if self.calm else [schema.get("minimum", 0), *NUMBERS[:10]])
            case "number":
                return pick.choice(NUMBERS)
        return None

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        pick, required = self.random, schema.get("required", ())
        made = {
            name: self.value(inner if isinstance(inner, dict) else {}, name, depth + 1)
            for name, inner in schema.get("properties", {}).items()
            if (pick.random() < 0.95 if name in required else pick.random() < 0.5)
        }
        if depth and pick.random() < 0.15 and not self.calm:
            made[self.text() or "extra"] = self.anything(depth)
        return made

    def string(self, schema: dict[str, Any], name: str) -> str:
        known = self.ids.get(NAMED.get(name, name), [])
        if known and (self.calm or self.random.random() < 0.8):
            return self.random.choice(known)
        if name.endswith("_at") or schema.get("format") == "date-time":
            return self.random.choice(["2036-01-01T00:00:00.000000Z"] if self.calm else ["2036-01-01T00:00:00Z", "2001-01-01T00:00:00.000000Z", *TEXTS])
        if "url" in name:
            return self.random.choice(["http://x/v3"] if self.calm else ["http://x/$(project_id)s", *TEXTS])
        if name in {"interface", "method", "methods"}:
            return self.random.choice(["public", "GET", "POST", "password", "token", "application_credential", self.text()])
        if name == "blob":
            return self.random.choice(['{"access": "a", "secret": "b"}', '{"access": 1}', "[]", self.text()])
        return self.text()

    def anything(self, depth: int) -> Any:
        pick = self.random
        kind = pick.randrange(9)
        if kind < 3:
            return self.text()
        if kind == 3:
            return pick.choice(NUMBERS)
        if kind == 4:
            return pick.choice([None, True, False, [], {}, [[]], {"": ""}])
        if kind == 5:
            nested: Any = "x"
            for _ in range(pick.choice([2, 26, 28, 33, 90, 300, 900])):
                nested = [nested] if pick.random() < 0.5 else {"a": nested}
            return nested
        if kind == 6 and depth < 4:
            return {self.text(): self.anything(depth + 1) for _ in range(3)}
        return [self.text(), pick.choice(NUMBERS), None]

    # Playing them -----------------------------------------------------------------------------------------------------

    def send(self, request: Request) -> str | None:
        """What is wrong with the answer; None when nothing is."""
        status, headers, content = self._play(request)
        self.seen.setdefault(f"{request.method} {request.path}", set()).add(status)
        if status >= 500:
            return f"{status} {content[:300]!r}"
        if "x-openstack-request-id" not in headers:
            return "no request id"
        described = self.document["paths"][request.path][request.method.lower()]
        if status >= 400:
            return self._wrong_fault(request, status, headers, content)
        if str(status) not in described["responses"] and not (request.method == "GET" and status == 304):
            return f"{status} is not in the document"
        schema = described["responses"][str(status)].get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            try:
                jsonschema.validate(orjson.loads(content), schema)
            except jsonschema.ValidationError as error:
                return f"the answer does not fit the document: {error.message}"
        if status == 204 and (content or headers.get("content-length", "0") != "0"):
            return "204 with a body"
        if request.method == "DELETE":  # it may be gone: later requests shall find something
            for known in self.ids.values():
                known[:] = [one for one in known if one not in request.target or len(known) == 1]
        if status == 201 and content.startswith(b"oauth_token="):
            self.remember("request_token_id", content[12:44].decode())
        elif status == 201 and content:
            self._learn(orjson.loads(content))
        return None

    def _wrong_fault(self, request: Request, status: int, headers: dict[str, str], content: bytes) -> str | None:
        if request.path.startswith(OTHER_FAULTS) and b'"error_description"' in content:
            return None
        if request.method == "HEAD":
            return "HEAD with a body" if content else None
        if headers.get("content-type") != "application/json":
            return f"an error of type {headers.get('content-type')}"
        try:
            jsonschema.validate(body := orjson.loads(content), FAULT)
        except (ValueError, jsonschema.ValidationError) as error:
            return f"no fault: {error}: {content[:200]!r}"
        if body["error"]["code"] != status:
            return f"{status} says {body['error']['code']}"
        if status == 401 and "www-authenticate" not in headers:
            return "401 without WWW-Authenticate"
        return None

    def _learn(self, body: Any) -> None:
        for kind, value in body.items() if isinstance(body, dict) else ():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict) and isinstance(one.get("id"), str) and kind != "token":
                    self.remember(f"{kind.rstrip('s')}_id" if kind != "policies" else "policy_id", one["id"])
                if kind == "credential" and isinstance(one, dict) and isinstance(one.get("access"), str):
                    self.remember("access", one["access"])

    def _play(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        path, _, query = request.target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "/identity",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "5000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost:5000",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": io.StringIO(),
        }
        if request.assertion is not None:
            environ[ASSERTION_KEY] = request.assertion
        for name, value in request.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        started: list[Any] = []
        content = b"".join(self.identity.client.app(environ, lambda status, headers, _exc=None: started.extend((int(status[:3]), headers))))
        for name, value in started[1]:
            f"{name}: {value}".encode("latin-1")  # the edge sends nothing else
            assert "\r" not in value and "\n" not in value, f"a header is broken by {request}"
        return started[0], {name.lower(): value for name, value in started[1]}, content

    def still_there(self) -> None:
        """The administrator and the member can still log in, whatever was done."""
        self.tokens["admin"] = self.identity.admin = self.identity.token("admin", PASSWORD)
