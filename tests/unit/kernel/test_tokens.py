"""Fernet tokens and their keys."""

from __future__ import annotations

import datetime as dt
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.kernel import ids, tokens
from pileus.kernel.tokens import Claims, KeyRepository, TokenInvalid

NOW = dt.datetime(2026, 11, 20, 10, 22, 14, 123456)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = KeyRepository(tmp_path_factory.mktemp("keys") / "fernet")
    made.setup()
    return made


def claims(**values):
    given = {
        "user_id": ids.new_id(),
        "methods": ("password",),
        "issued_at": NOW,
        "expires_at": NOW + dt.timedelta(hours=1),
        "audit_ids": (tokens.new_audit_id(),),
    }
    return Claims(**{**given, **values})


SCOPES = st.sampled_from(
    [
        *("project", "trust without project", "domain", "system", "none", "application_credential", "trust", "oauth1"),
        *("certificate", "certificate alone", "federated", "federated project", "federated domain", "federated system"),
    ]
)
FEDERATED = {"identity_provider_id": "idp", "protocol_id": "openid"}
IDS = st.one_of(st.uuids().map(lambda found: found.hex), st.sampled_from(["default", "service-nova", "ab", "00", "A" * 32, "b" * 64, "ü"]))


def scoped(scope, user_id, target):
    return {
        "project": {"project_id": target},
        "domain": {"domain_id": target},
        "system": {"system": "all"},
        "none": {},
        "application_credential": {"project_id": target, "application_credential_id": user_id},
        "trust without project": {"trust_id": target},
        "trust": {"project_id": target, "trust_id": user_id},
        "oauth1": {"project_id": target, "access_token_id": user_id},
        "certificate": {"project_id": target, "thumbprint": "x" * 43},
        "certificate alone": {"thumbprint": "x" * 43},
        "federated": FEDERATED,
        "federated project": {"project_id": target, **FEDERATED},
        "federated domain": {"domain_id": target, **FEDERATED},
        "federated system": {"system": "all", **FEDERATED},
    }[scope]


@given(scope=SCOPES, user_id=IDS, target=IDS, methods=st.sets(st.sampled_from(tokens.METHODS), min_size=1), chained=st.booleans())
def test_what_goes_in_comes_out(keys, scope, user_id, target, methods, chained):
    values = scoped(scope, user_id, target)
    audit_ids = tuple(tokens.new_audit_id() for _ in range(1 + chained))
    ordered = tuple(method for method in tokens.METHODS if method in methods)
    made = claims(user_id=user_id, methods=ordered, audit_ids=audit_ids, **values)
    token = tokens.encode(made, keys)
    assert tokens.decode(token, keys) == made
    assert token.isascii() and "=" not in token


def test_tokens_stay_below_250_characters(keys):
    two = (tokens.new_audit_id(), tokens.new_audit_id())
    for scope in ({"project_id": ids.new_id()}, {"project_id": ids.new_id(), "application_credential_id": ids.new_id()}):
        assert len(tokens.encode(claims(audit_ids=two, methods=tokens.METHODS, **scope), keys)) < 250


def test_a_changed_token_is_none(keys):
    token = tokens.encode(claims(), keys)
    for position in range(0, len(token) - 1, 7):  # the last character may hold bits that mean nothing
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        if changed != token:
            with pytest.raises(TokenInvalid):
                tokens.decode(changed, keys)


@given(st.text(max_size=300))
def test_any_text_is_a_token_or_is_refused(keys, text):
    with pytest.raises(TokenInvalid):
        tokens.decode(text, keys)


def test_payloads_of_unknown_forms_are_refused(keys):
    import msgspec

    for payload in ([99, "u", 1, 1, 1, b""], [], 7, "x", [2], {"a": 1}, [2, "u", 1, 1, 1, b"x" * 16], [0, "u", 1, 1 << 62, 1, b""]):
        token = keys.fernets()[0].encrypt(msgspec.msgpack.encode(payload)).decode()
        with pytest.raises(TokenInvalid):
            tokens.decode(token, keys)


def test_keys_are_private_and_numbered(tmp_path):
    keys = KeyRepository(tmp_path / "a" / "fernet")
    keys.setup()
    keys.setup()
    names = sorted(file.name for file in keys.path.iterdir())
    assert names == [".lock", "0", "1"]
    assert keys.path.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in keys.path.iterdir())


def test_a_rotation_promotes_the_staged_key_and_prunes_the_oldest(tmp_path):
    keys = KeyRepository(tmp_path / "fernet")
    keys.setup()
    staged = (keys.path / "0").read_bytes()
    token = tokens.encode(claims(), keys)
    assert keys.rotate() == 2
    assert (keys.path / "2").read_bytes() == staged
    assert tokens.decode(token, keys)
    assert keys.rotate() == 3
    assert sorted(file.name for file in keys.path.iterdir()) == [".lock", "0", "2", "3"]
    with pytest.raises(TokenInvalid):
        tokens.decode(token, keys)


def test_other_processes_see_a_rotation(tmp_path):
    mine, theirs = KeyRepository(tmp_path / "fernet"), KeyRepository(tmp_path / "fernet")
    mine.setup()
    theirs.fernets()
    mine.rotate()
    assert tokens.decode(tokens.encode(claims(), mine), theirs)


def test_a_token_of_the_next_primary_key_is_already_accepted(tmp_path):
    """Another host that has not seen the rotation yet knows the new primary key as the staged one."""
    import shutil

    mine = KeyRepository(tmp_path / "fernet")
    mine.setup()
    shutil.copytree(mine.path, tmp_path / "copy")
    mine.rotate()
    assert tokens.decode(tokens.encode(claims(), mine), KeyRepository(tmp_path / "copy"))


def test_a_rotation_that_was_killed_half_way_is_finished_by_the_next(tmp_path):
    keys = KeyRepository(tmp_path / "fernet")
    keys.setup()
    (keys.path / "0").rename(keys.path / "2")
    (keys.path / ".0.new").write_bytes(b"half")
    token = tokens.encode(claims(), KeyRepository(keys.path))
    assert keys.rotate() == 2
    assert sorted(file.name for file in keys.path.iterdir() if file.name.isdigit()) == ["0", "1", "2"]
    assert tokens.decode(token, keys)


def test_rotations_at_once_are_one_after_the_other(tmp_path):
    keys = KeyRepository(tmp_path / "fernet")
    keys.setup()
    threads = [threading.Thread(target=KeyRepository(keys.path).rotate, args=(10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(name) for name in os.listdir(keys.path) if name.isdigit()) == [0, 1, 2, 3, 4, 5]


def test_without_keys_there_are_no_tokens(tmp_path):
    with pytest.raises(FileNotFoundError):
        tokens.encode(claims(), KeyRepository(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError):
        tokens.encode(claims(), KeyRepository(tmp_path / "empty"))
