"""What passwords have to be, how long they last, and who is locked out."""

from __future__ import annotations

import pytest

from pileus.identity.options import Options
from pileus.kernel import clock
from pileus.kernel.config import load
from pileus.kernel.errors import ConfigurationError
from tests.api.identity.test_races import at_once, statuses
from tests.api.identity.world import PASSWORD, Identity, message
from tests.databases import KINDS, database_url

DAY = 86400
NO = "The request you have made requires authentication."


def change(identity, user, old, new):
    body = {"user": {"original_password": old, "password": new}}
    return identity("POST", f"/users/{user['id']}/password", body, token=None)


def by_admin(identity, user, **body):
    identity.admin = identity.token("admin", PASSWORD)
    return identity("PATCH", f"/users/{user['id']}", {"user": body})


def shown(identity, user):
    identity.admin = identity.token("admin", PASSWORD)
    return identity("GET", f"/users/{user['id']}", ok=200).json["user"]


# Strength -------------------------------------------------------------------------------------------------------------


def test_a_password_has_to_match_whoever_sets_it(start):
    identity = start(password_regex=r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$", password_regex_description="A letter, a digit, 7 characters.")
    refused = identity("POST", "/users", {"user": {"name": "ann", "password": "weak"}})
    assert refused.status == 400
    assert message(refused) == "The password is not strong enough: A letter, a digit, 7 characters."
    ann = identity.user("ann", password="str0ng-enough")
    assert by_admin(identity, ann, password="weak").status == 400
    assert message(change(identity, ann, "str0ng-enough", "weak")) == message(refused)
    assert identity.login("ann", "str0ng-enough").status == 201
    assert change(identity, ann, "str0ng-enough", "0ther-and-strong").status == 204


def test_a_rule_without_description_is_shown_itself(start):
    identity = start(password_regex="^a+$")
    assert message(identity("POST", "/users", {"user": {"name": "ann", "password": "b"}})) == (
        "The password is not strong enough: it has to match ^a+$."
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('password_regex = "("', "password_regex '(' is no regular expression"),
        ("password_expires_days = 5\nminimum_password_age = 5", "minimum_password_age has to be smaller"),
        ("lockout_failure_attempts = -1", "lockout_failure_attempts"),
        ("totp_included_previous_windows = 11", "totp_included_previous_windows"),
        ("receipt_expiration = 0", "receipt_expiration"),
    ],
)
def test_impossible_rules_stop_the_start(tmp_path, text, told):
    (tmp_path / "pileus.toml").write_text(f"[identity]\n{text}\n")
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, {"identity": Options}, environ={})
    assert told in str(refused.value)


# Expiry ---------------------------------------------------------------------------------------------------------------


def test_a_password_expires_and_is_changed_with_itself(start, time):
    identity = start(password_expires_days=10)
    ann = identity.user("ann")
    assert ann["password_expires_at"] == "2026-11-28T11:07:00.000000"
    token = identity.login("ann", "ann-secret").json["token"]
    assert token["user"]["password_expires_at"] == "2026-11-28T11:07:00.000000"
    time.advance(10 * DAY)
    expired = identity.login("ann", "ann-secret")
    assert expired.status == 401
    assert message(expired) == f"The password is expired and needs to be changed for user: {ann['id']}."
    assert message(identity.login("ann", "wrong")) == NO, "only who knows the password learns that it has expired"
    assert change(identity, ann, "wrong", "next").status == 401
    assert change(identity, ann, "ann-secret", "next").status == 204
    assert identity.login("ann", "next").status == 201
    assert shown(identity, ann)["password_expires_at"] == "2026-12-08T11:07:00.000000"


def test_an_expired_password_of_a_disabled_user_stays(start, time):
    identity = start(password_expires_days=2)
    ann = identity.user("ann", enabled=False)
    time.advance(3 * DAY)
    assert message(identity.login("ann", "ann-secret")) == NO
    assert change(identity, ann, "ann-secret", "next").status == 401


def test_users_can_be_exempt_from_expiry(start, time):
    identity = start(password_expires_days=10)
    ann = identity.user("ann", options={"ignore_password_expiry": True})
    assert ann["password_expires_at"] is None
    time.advance(30 * DAY)
    assert identity.login("ann", "ann-secret").status == 201
    changed = by_admin(identity, ann, options={"ignore_password_expiry": None}).json["user"]
    assert changed["options"] == {} and changed["password_expires_at"] == "2026-11-28T11:07:00.000000"
    assert identity.login("ann", "ann-secret").status == 401
    assert by_admin(identity, ann, options={"ignore_password_expiry": True}).json["user"]["password_expires_at"] is None
    assert identity.login("ann", "ann-secret").status == 201


def test_the_first_password_has_to_be_changed(start):
    identity = start(change_password_upon_first_use=True)
    ann = identity.user("ann")
    assert "needs to be changed" in message(identity.login("ann", "ann-secret"))
    assert change(identity, ann, "ann-secret", "own").status == 204
    assert identity.login("ann", "own").status == 201
    by_admin(identity, ann, password="given")
    assert "needs to be changed" in message(identity.login("ann", "given")), "one that was reset too"
    bob = identity.user("bob", options={"ignore_change_password_upon_first_use": True})
    assert bob["password_expires_at"] is None
    assert identity.login("bob", "bob-secret").status == 201
    assert identity.login("nova", "nova-secret").status == 201, "what the cloud was made with works"


def test_lists_by_the_end_of_passwords(start, time):
    identity = start(password_expires_days=10)
    moments = {}
    group = identity.make("group", name="crew")
    for name in ("ann", "bob", "cid"):
        user = identity.user(name)
        identity("PUT", f"/groups/{group['id']}/users/{user['id']}", ok=204)
        moments[name] = user["password_expires_at"].removesuffix(".000000") + "Z"
        time.advance(60)
    identity.user("for-ever", options={"ignore_password_expiry": True})
    for path in ("/users", f"/groups/{group['id']}/users"):
        for operator, expected in {
            "lt:": {"ann"},
            "lte:": {"ann", "bob"},
            "gt:": {"cid"},
            "gte:": {"bob", "cid"},
            "eq:": {"bob"},
            "neq:": {"ann", "cid"},
            "": {"bob"},
        }.items():
            answer = identity("GET", f"{path}?password_expires_at={operator}{moments['bob']}", ok=200)
            assert {user["name"] for user in answer.json["users"]} == expected, operator
        both = f"{path}?password_expires_at=gt:{moments['ann']}&password_expires_at=lt:{moments['cid']}&name__contains=b"
        assert [user["name"] for user in identity("GET", both, ok=200).json["users"]] == ["bob"]
        for wrong in ("in:2026-01-01T00:00:00Z", "lt:", "lt:yesterday", "lt", "", "lt:9999-99-99T00:00:00Z", "lt:0001-01-01T00:00:00%2B23:00"):
            assert identity("GET", f"{path}?password_expires_at={wrong}").status == 400, wrong


# Age and history ------------------------------------------------------------------------------------------------------


def test_a_password_is_kept_for_some_days(start, time):
    identity = start(minimum_password_age=2)
    ann = identity.user("ann")
    assert change(identity, ann, "ann-secret", "second").status == 204, "one given by an administrator may be changed at once"
    refused = change(identity, ann, "second", "third")
    assert refused.status == 400
    assert message(refused) == (
        "A password has to be kept for 2 days before it can be changed; this one can be in 2 days, or now by an administrator."
    )
    by_admin(identity, ann, password="given")
    assert change(identity, ann, "given", "third").status == 204
    time.advance(2 * DAY - 1)
    assert "can be in 1 days" in message(change(identity, ann, "third", "fourth"))
    time.advance(1)
    assert change(identity, ann, "third", "fourth").status == 204


def test_passwords_are_not_used_again(start, time):
    identity = start(unique_last_password_count=3)
    ann = identity.user("ann", password="one")
    for old, new in (("one", "two"), ("two", "three")):
        time.advance(1)
        assert change(identity, ann, old, new).status == 204
    for known in ("one", "two", "three"):
        refused = change(identity, ann, "three", known)
        assert refused.status == 400, known
        assert message(refused) == (
            "The new password was used before: it has to differ from the last 3, the present one among them."
        )
    time.advance(1)
    assert change(identity, ann, "three", "four").status == 204
    assert change(identity, ann, "four", "one").status == 204, "the fourth last is forgotten"


def test_an_administrator_may_set_an_old_password_which_counts(start, time):
    identity = start(unique_last_password_count=2)
    ann = identity.user("ann", password="one")
    assert by_admin(identity, ann, password="one").status == 200
    time.advance(1)
    assert by_admin(identity, ann, password="two").status == 200
    assert change(identity, ann, "two", "one").status == 400
    assert change(identity, ann, "two", "three").status == 204


def test_one_remembered_password_is_the_present_one(start):
    identity = start(unique_last_password_count=1)
    ann = identity.user("ann", password="one")
    assert message(change(identity, ann, "one", "one")).endswith("it has to differ from the present one.")
    assert change(identity, ann, "one", "two").status == 204
    assert change(identity, ann, "two", "one").status == 204


def test_without_rules_anything_goes(start):
    identity = start()
    ann = identity.user("ann", password="one")
    assert change(identity, ann, "one", "one").status == 204


# Lockout --------------------------------------------------------------------------------------------------------------


def test_too_many_wrong_passwords_lock_the_user_for_a_while(start, time):
    identity = start(lockout_failure_attempts=3, lockout_duration=100)
    ann = identity.user("ann")
    for _ in range(3):
        assert identity.login("ann", "wrong").status == 401
    locked, unknown = identity.login("ann", "ann-secret"), identity.login("nobody", "ann-secret")
    assert locked.status == 401 and locked.body == unknown.body, "nobody learns who exists and who is locked"
    assert change(identity, ann, "ann-secret", "next").status == 401
    time.advance(99)
    assert identity.login("ann", "wrong").status == 401, "does not make the lock longer"
    time.advance(1)
    assert identity.login("ann", "ann-secret").status == 201
    assert identity.login("ann", "wrong").status == 401
    assert identity.login("ann", "ann-secret").status == 201, "counting began anew"


def test_wrong_originals_of_a_password_change_count(start):
    identity = start(lockout_failure_attempts=2)
    ann = identity.user("ann")
    for _ in range(2):
        assert change(identity, ann, "wrong", "next").status == 401
    assert identity.login("ann", "ann-secret").status == 401


def test_a_right_password_between_wrong_ones_starts_anew(start):
    identity = start(lockout_failure_attempts=3)
    identity.user("ann")
    for _ in range(4):
        for _ in range(2):
            assert identity.login("ann", "wrong").status == 401
        assert identity.login("ann", "ann-secret").status == 201


def test_after_a_lock_has_ended_it_takes_as_many_again(start, time):
    identity = start(lockout_failure_attempts=2, lockout_duration=100)
    identity.user("ann")
    for _ in range(3):
        for _ in range(2):
            identity.login("ann", "wrong")
        assert identity.login("ann", "ann-secret").status == 401
        time.advance(100)
        identity.login("ann", "wrong")
        assert identity.login("ann", "ann-secret").status == 201


def test_what_a_locked_user_has_goes_on(start):
    identity = start(lockout_failure_attempts=2)
    who, project, token = identity.member("ann")
    body = {"application_credential": {"name": "robot"}}
    secret = identity("POST", f"/users/{who['id']}/application_credentials", body, token=token, ok=201).json["application_credential"]
    for _ in range(2):
        identity.login("ann", "wrong")
    assert identity.login("ann", "ann-secret").status == 401
    assert identity.validate(token).status == 200
    assert identity.exchange(token, {"project": {"id": project["id"]}}).status == 201
    proof = {"methods": ["application_credential"], "application_credential": {"id": secret["id"], "secret": secret["secret"]}}
    assert identity("POST", "/auth/tokens", {"auth": {"identity": proof}}, token=None).status == 201


def test_a_lock_without_end_is_ended_by_administrators(start, time):
    identity = start(lockout_failure_attempts=1, lockout_duration=0)
    ann, bob = identity.user("ann"), identity.user("bob")
    for name in ("ann", "bob"):
        identity.login(name, "wrong")
    time.advance(10_000 * DAY)
    assert identity.login("ann", "ann-secret").status == 401
    assert by_admin(identity, ann, description="no unlocking").status == 200
    assert identity.login("ann", "ann-secret").status == 401
    assert by_admin(identity, ann, enabled=True).status == 200
    assert identity.login("ann", "ann-secret").status == 201
    assert by_admin(identity, bob, password="given").status == 200
    assert identity.login("bob", "given").status == 201


def test_users_can_be_exempt_from_lockout_and_services_are(start):
    identity = start(lockout_failure_attempts=1)
    identity.user("ann", options={"ignore_lockout_failure_attempts": True})
    for name, password in (("ann", "ann-secret"), ("nova", "nova-secret")):
        for _ in range(3):
            assert identity.login(name, "wrong").status == 401
        assert identity.login(name, password).status == 201


@pytest.mark.parametrize("kind", KINDS)
def test_guesses_at_once_count_each(tmp_path, kind):
    with database_url(kind, tmp_path) as url:
        identity = Identity(db_url=url, home=tmp_path / "home", options={"lockout_failure_attempts": 7})
        ann = identity.user("ann")
        wrong = at_once(*[lambda: identity.login("ann", "wrong") for _ in range(6)])
        assert statuses(wrong) == [401] * 6
        assert identity.login("ann", "wrong").status == 401, "the seventh"
        assert identity.login("ann", "ann-secret").status == 401, "none was lost"
        assert identity("PATCH", f"/users/{ann['id']}", {"user": {"enabled": True}}, ok=200)
        assert identity.login("ann", "ann-secret").status == 201
        changes = [lambda n=n: change(identity, ann, "ann-secret", f"new-{n}") for n in range(3)]
        assert statuses(at_once(*changes)) == [204, 401, 401], "one changes it, and the others' original is wrong then"
        identity.client.close()


# Inactivity -----------------------------------------------------------------------------------------------------------


def test_who_does_not_come_for_long_is_disabled(start, time):
    identity = start(disable_user_account_days_inactive=90)
    ann = identity.user("ann")
    identity.user("bob", options={"ignore_user_inactivity": True})
    identity.user("cid", enabled=False)
    time.advance(89 * DAY)
    assert identity.login("ann", "ann-secret").status == 201
    time.advance(89 * DAY)
    token = identity.login("ann", "ann-secret").headers["x-subject-token"]
    assert identity.validate(token, by=identity.token("nova", "nova-secret", {"project": {"name": "service", "domain": {"id": "default"}}})).status == 200
    time.advance(90 * DAY)
    away = identity.login("ann", "ann-secret")
    assert away.status == 401 and message(away) == NO
    assert change(identity, ann, "ann-secret", "next").status == 401
    assert identity.login("bob", "bob-secret").status == 201
    assert identity.login("nova", "nova-secret").status == 201
    assert shown(identity, ann)["enabled"] is False

    def names(query):
        return {user["name"] for user in identity("GET", f"/users?{query}", ok=200).json["users"]}

    assert names("enabled=true") == {"admin", "bob", "nova"}
    assert names("enabled=false") == {"ann", "cid"}
    assert by_admin(identity, ann, enabled=True).json["user"]["enabled"] is True
    assert identity.login("ann", "ann-secret").status == 201


def test_tokens_of_an_inactive_user_end(start, time):
    identity = start(disable_user_account_days_inactive=1, token_expiration=10 * DAY)
    identity.user("ann")
    token = identity.token("ann", "ann-secret", "unscoped")
    assert identity.validate(token).status == 200
    time.advance(2 * DAY)
    identity.user("bob")  # raises no revision: what is remembered may be a little older
    identity("DELETE", f"/users/{identity.user('cid')['id']}", ok=204)
    assert identity.validate(token, by=identity.token("admin", PASSWORD)).status == 404


def test_exempt_from_inactivity_and_not_any_more(start, time):
    identity = start(disable_user_account_days_inactive=10)
    ann = identity.user("ann", options={"ignore_user_inactivity": True})
    time.advance(50 * DAY)
    by_admin(identity, ann, options={"ignore_user_inactivity": None})
    time.advance(9 * DAY)
    assert identity.login("ann", "ann-secret").status == 201
    time.advance(10 * DAY)
    assert identity.login("ann", "ann-secret").status == 401
    by_admin(identity, ann, options={"ignore_user_inactivity": True})
    assert identity.login("ann", "ann-secret").status == 201


def test_activity_is_written_once_a_day(start, time):
    identity = start()
    identity.user("ann")
    for days, expected in ((0, 0), (1, 1), (0, 0)):
        time.advance(days * DAY)
        with identity.client.count_queries() as statements:
            assert identity.login("ann", "ann-secret").status == 201
        assert len([one for one in statements if one.startswith("UPDATE users")]) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_on_every_database(tmp_path, time, kind):
    options = {
        "disable_user_account_days_inactive": 10,
        "password_expires_days": 30,
        "unique_last_password_count": 2,
        "lockout_failure_attempts": 2,
        "lockout_duration": 60,
    }
    with database_url(kind, tmp_path) as url:
        identity = Identity(db_url=url, home=tmp_path / "home", options=options)
        ann, bob = identity.user("ann"), identity.user("bob")
        for _ in range(2):
            assert identity.login("bob", "wrong").status == 401
        assert identity.login("bob", "bob-secret").status == 401
        time.advance(9 * DAY)
        assert identity.login("ann", "ann-secret").status == 201
        assert change(identity, ann, "ann-secret", "second").status == 204
        assert change(identity, ann, "second", "ann-secret").status == 400
        time.advance(1)
        assert change(identity, ann, "second", "third").status == 204
        time.advance(2 * DAY)
        assert identity.login("ann", "third").status == 201
        assert identity.login("bob", "bob-secret").status == 401
        identity.admin = identity.token("admin", PASSWORD)
        for query, expected in {
            "enabled=true": {"admin", "ann", "nova"},
            "enabled=false": {"bob"},
            "password_expires_at=lt:2026-12-20T00:00:00Z": {"bob"},
            "password_expires_at=neq:2026-12-20T00:00:00Z&enabled=true": {"ann"},
        }.items():
            found = identity("GET", f"/users?{query}", ok=200).json["users"]
            assert {user["name"] for user in found} == expected, query
        assert identity("PATCH", f"/users/{bob['id']}", {"user": {"enabled": True}}, ok=200).json["user"]["enabled"]
        assert identity.login("bob", "bob-secret").status == 201
        identity("DELETE", f"/users/{ann['id']}", ok=204)
        identity.client.close()


def test_a_token_from_before_the_change_gives_no_other(start, time):
    identity = start()
    user = identity.user("ann")
    before = identity.token("ann", "ann-secret", "unscoped")
    time.advance(1)
    body = {"user": {"original_password": "ann-secret", "password": "another"}}
    identity("POST", f"/users/{user['id']}/password", body, token=None, ok=204)
    assert identity.exchange(before).status == 404
    assert identity.login("ann", "ann-secret").status == 401
    assert identity.login("ann", "another").status == 201
