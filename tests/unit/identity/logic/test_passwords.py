"""Password hashes: ours, and those of an upstream database."""

from __future__ import annotations

import threading

import pytest

from pileus.identity.logic import passwords
from pileus.identity.logic.passwords import Hasher
from pileus.kernel.db import Database
from pileus.kernel.errors import ProgrammingError


@pytest.fixture
def hasher():
    return Hasher(time_cost=1, memory_kib=8)


@pytest.mark.parametrize("password", ["secret", "", "pässwörd", "x" * 4096, "\x00y", "\ud800"])
def test_a_password_is_verified_by_its_hash_and_no_other(hasher, password):
    stored = hasher.hash(password)
    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert hasher.verify(password, stored)
    assert not hasher.verify(password + "x", stored)
    assert hasher.hash(password) != stored


@pytest.mark.parametrize(
    "stored",
    [
        "$2b$04$mrUjoCNSNiZ1p2xWx4HCjO25NTaE2iH6V01l6aBC1K5KdBxEm0aZC",
        "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
        "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
    ],
)
def test_hashes_of_an_upstream_database(hasher, stored):
    """The last two are the examples of passlib's documentation."""
    password = {"2b": "correctbatteryhorsestapler", "bcrypt-sha256": "password", "scrypt": "password"}[stored.split("$")[1]]
    assert hasher.verify(password, stored)
    assert not hasher.verify(password + "x", stored)


@pytest.mark.parametrize(
    "stored", [None, "", "plain", "$argon2id$broken", "$2b$broken", "$scrypt$x", "$scrypt$ln=4,r=8,p=1$$", "$bcrypt-sha256$v=1,t=2b,r=4$a$b", "$6$x$y"]
)
def test_what_is_no_hash_matches_nothing(hasher, stored):
    assert not hasher.verify("", stored)
    assert not hasher.verify("plain", stored)


def test_an_unknown_user_costs_a_hash_too(hasher, monkeypatch):
    checked = []
    matches = hasher._matches
    monkeypatch.setattr(hasher, "_matches", lambda password, stored: checked.append(stored) or matches(password, stored))
    hasher.verify("x", None)
    assert checked[0].startswith("$argon2id$v=19$m=8,t=1,p=1$")


def test_no_hash_inside_a_transaction(hasher, tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with db.read(), pytest.raises(ProgrammingError):
        hasher.hash("x")
    with db.read(), pytest.raises(ProgrammingError):
        hasher.verify("x", None)


def test_no_more_hashes_at_once_than_allowed():
    hasher = Hasher(time_cost=1, memory_kib=8, concurrent=2)
    running, most, lock = [], [], threading.Lock()
    go = threading.Event()

    class Counting:
        def hash(self, _password):
            with lock:
                running.append(1)
                most.append(len(running))
                if len(running) == 2:
                    go.set()
            go.wait(10)
            with lock:
                running.pop()
            return ""

    hasher._argon2 = Counting()
    threads = [threading.Thread(target=hasher.hash, args=("x",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 2


def test_generated_secrets_are_kept_as_digests():
    stored = passwords.hash_generated("long-secret")
    assert passwords.is_generated(stored) and "long-secret" not in stored
    assert passwords.verify_generated("long-secret", stored)
    assert not passwords.verify_generated("other", stored)
