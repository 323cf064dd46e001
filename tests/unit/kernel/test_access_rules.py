"""Patterns of paths in access rules."""

from __future__ import annotations

import pytest

from pileus.kernel.access_rules import AccessRule, Pattern, allow

MATCHES = [
    ("/v2.1/servers", "/v2.1/servers", True),
    ("/v2.1/servers", "/v2x1/servers", False),
    ("/v2.1/servers", "/v2.1/servers/1", False),
    ("/v2.1/servers/*", "/v2.1/servers/1", True),
    ("/v2.1/servers/*", "/v2.1/servers/", False),
    ("/v2.1/servers/*", "/v2.1/servers/1/action", False),
    ("/v2.1/servers/{server_id}", "/v2.1/servers/abc-def", True),
    ("/v2.1/servers/{server_id}/ips", "/v2.1/servers/a/b/ips", False),
    ("/v2.1/**", "/v2.1/servers/1/action", True),
    ("/v2.1/**", "/v2.1/", True),
    ("/v2.1/**", "/v2.2/servers", False),
    ("/v2.1**", "/v2.1", True),
    ("/**/action", "/v2.1/servers/1/action", True),
    ("/**/*/action", "/v2.1/action", False),
    ("/**/*/action", "/v2.1/servers/1/action", True),
    ("****", "/any/thing", True),
    ("/a***", "/a/b", True),
    ("/a***", "/a/", False),
    ("/*a*a*", "/xaxax", True),
    ("/*a*a*", "/xaxa", False),
    ("/{open", "/{open", True),
    ("/a+", "/aa", False),
    ("/a", "/a\n", False),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), MATCHES)
def test_a_pattern_matches_whole_paths(pattern, path, expected):
    assert Pattern(pattern).matches(path) is expected


def test_a_hostile_pattern_takes_no_longer_than_others():
    assert not Pattern("/" + "**a" * 40).matches("/" + "a" * 20_000 + "b")
    assert not Pattern("/" + "*a" * 60).matches("/" + "a" * 20_000 + "b")


def test_service_method_and_path_must_all_fit():
    rules = [AccessRule("compute", "GET", "/v2.1/**")]
    assert allow(rules, "compute", "GET", ("/v2.1/servers", "/compute/v2.1/servers"))
    assert allow([AccessRule("compute", "GET", "/compute/**")], "compute", "GET", ("/v2.1/x", "/compute/v2.1/x"))
    assert not allow(rules, "network", "GET", ("/v2.1/servers",))
    assert not allow(rules, "compute", "HEAD", ("/v2.1/servers",))
    assert not allow([], "compute", "GET", ("/v2.1/servers",))
