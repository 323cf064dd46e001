"""One-time passcodes, rules of several methods, and receipts."""

from __future__ import annotations

import datetime as dt
import shutil

import pytest
from cryptography.fernet import Fernet

from pileus.identity.logic import keys, totp
from pileus.kernel import clock
from tests import databases
from tests.api.identity.test_races import at_once, statuses
from tests.api.identity.world import PASSWORD, Identity, message

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
NO = b'{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}'
RULES = [["password", "totp"]]


def code(back=0):
    return totp.passcode(totp.key_of(SECRET), totp.step_at(clock.time()) - back)


def with_totp(identity, name, secret=SECRET, **body):
    user = identity.user(name, **body)
    credential = {"type": "totp", "user_id": user["id"], "blob": secret}
    identity("POST", "/credentials", {"credential": credential}, ok=201)
    return user


def password_of(user, password=None):
    return {"password": {"user": {"id": user["id"], "password": password or f"{user['name']}-secret"}}}


def passcode_of(user, given=None):
    return {"totp": {"user": {"id": user["id"], "passcode": given if given is not None else code()}}}


def login(identity, proofs, receipt=None, scope="unscoped"):
    auth = {"identity": {"methods": list(proofs), **proofs}, **({"scope": scope} if scope else {})}
    headers = {"Openstack-Auth-Receipt": receipt} if receipt is not None else {}
    return identity("POST", "/auth/tokens", {"auth": auth}, token=None, headers=headers)


# TOTP -----------------------------------------------------------------------------------------------------------------


def test_a_passcode_logs_in_once(start, time):
    identity = start()
    ann = with_totp(identity, "ann")
    answer = login(identity, passcode_of(ann))
    assert answer.status == 201 and answer.json["token"]["methods"] == ["totp"]
    again = login(identity, passcode_of(ann))
    assert again.status == 401 and again.body == NO, "whoever looked over a shoulder comes too late"
    time.advance(30)
    by_name = {"totp": {"user": {"name": "ann", "domain": {"name": "Default"}, "passcode": code()}}}
    assert login(identity, by_name).status == 201


def test_the_window_before_counts_and_what_is_older_than_a_used_one_does_not(start, time):
    identity = start()
    ann = with_totp(identity, "ann")
    assert login(identity, passcode_of(ann, code(2))).status == 401
    assert login(identity, passcode_of(ann, code(-1))).status == 401
    assert login(identity, passcode_of(ann, code(1))).status == 201
    assert login(identity, passcode_of(ann, code(0))).status == 201
    time.advance(30)
    assert login(identity, passcode_of(ann, code(1))).status == 401, "used in its own window"


def test_no_window_before_where_none_is_wanted(start):
    identity = start(totp_included_previous_windows=0)
    ann = with_totp(identity, "ann")
    assert login(identity, passcode_of(ann, code(1))).status == 401
    assert login(identity, passcode_of(ann)).status == 201


def test_wrong_passcodes(start):
    identity = start()
    ann, bob = with_totp(identity, "ann"), identity.user("bob")
    wrong = "000000" if code() != "000000" else "111111"
    for proof in (passcode_of(ann, wrong), passcode_of(ann, ""), passcode_of(ann, " " + code()), passcode_of(bob), passcode_of({"id": "0" * 32})):
        answer = login(identity, proof)
        assert answer.status == 401 and answer.body == NO
    for proof in ({"totp": {}}, {"totp": {"user": {}}}, {"totp": {"user": {"id": ann["id"]}}}, {"totp": {"user": {"id": ann["id"], "passcode": 123456}}}, {"totp": {"user": {"id": ann["id"], "passcode": "1" * 65}}}, {"totp": {"user": {"passcode": "1"}}}):
        assert login(identity, proof).status == 400, proof
    assert login(identity, passcode_of(ann)).status == 201


def test_a_disabled_user_has_no_passcode(start):
    identity = start()
    ann = with_totp(identity, "ann", enabled=False)
    assert login(identity, passcode_of(ann)).status == 401


def test_a_key_has_to_be_one(start):
    identity = start()
    ann = identity.user("ann")
    body = {"type": "totp", "user_id": ann["id"], "blob": "not base32!"}
    refused = identity("POST", "/credentials", {"credential": body})
    assert refused.status == 400
    assert message(refused) == "The blob of a credential of type totp has to be its key in base32."
    other = identity("POST", "/credentials", {"credential": {**body, "type": "cert"}}, ok=201).json["credential"]
    path = f"/credentials/{other['id']}"
    assert identity("PATCH", path, {"credential": {"type": "totp"}}).status == 400
    assert identity("PATCH", path, {"credential": {"type": "totp", "blob": SECRET}}).status == 200
    assert identity("PATCH", path, {"credential": {"blob": "0189"}}).status == 400
    assert login(identity, passcode_of(ann)).status == 201


def test_any_of_several_devices_will_do_and_a_new_key_ends_the_old(start, time):
    identity = start()
    ann = with_totp(identity, "ann", "MFRGGZDFMZTWQ2LK")
    second = {"type": "totp", "user_id": ann["id"], "blob": SECRET}
    made = identity("POST", "/credentials", {"credential": second}, ok=201).json["credential"]
    assert login(identity, passcode_of(ann)).status == 201
    time.advance(30)
    identity("DELETE", f"/credentials/{made['id']}", ok=204)
    assert login(identity, passcode_of(ann)).status == 401


def test_wrong_passcodes_lock_and_locked_passcodes_are_wrong(start, time):
    identity = start(lockout_failure_attempts=2, lockout_duration=60)
    ann = with_totp(identity, "ann")
    wrong = "000000" if code() != "000000" else "111111"
    login(identity, passcode_of(ann, wrong))
    login(identity, password_of(ann, "wrong"))
    assert login(identity, passcode_of(ann)).body == login(identity, password_of(ann)).body == NO
    time.advance(60)
    assert login(identity, passcode_of(ann)).status == 201


@pytest.mark.parametrize("parts", ["one", "two"])
def test_who_knows_the_password_cannot_guess_passcodes_for_ever(start, parts, time):
    identity = start(lockout_failure_attempts=3, lockout_duration=60)
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    for _ in range(3):
        if parts == "one":
            assert login(identity, {**password_of(ann), **passcode_of(ann, "wrong")}).status == 401
        else:
            receipt = login(identity, password_of(ann)).headers["openstack-auth-receipt"]
            assert login(identity, passcode_of(ann, "wrong"), receipt).status == 401
    locked = login(identity, {**password_of(ann), **passcode_of(ann)})
    assert locked.status == 401 and locked.body == NO
    assert "openstack-auth-receipt" not in login(identity, password_of(ann)).headers
    time.advance(60)
    assert login(identity, {**password_of(ann), **passcode_of(ann)}).status == 201


def test_another_password_forgives_no_wrong_passcodes(start, time):
    identity = start(lockout_failure_attempts=3)
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    for number in range(2):
        assert login(identity, passcode_of(ann, "wrong")).status == 401
        body = {"original_password": "ann-secret" if not number else "ann-0", "password": f"ann-{number}"}
        identity("POST", f"/users/{ann['id']}/password", {"user": body}, token=None, ok=204)
    assert login(identity, passcode_of(ann, "wrong")).status == 401
    assert login(identity, {**password_of(ann, "ann-1"), **passcode_of(ann)}).body == NO


def test_a_whole_login_starts_counting_anew(start, time):
    identity = start(lockout_failure_attempts=2)
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    for _ in range(3):
        assert login(identity, passcode_of(ann, "wrong")).status == 401
        receipt = login(identity, password_of(ann)).headers["openstack-auth-receipt"]
        assert login(identity, passcode_of(ann), receipt).status == 201
        time.advance(30)


@pytest.mark.parametrize("kind", databases.KINDS)
def test_of_two_who_use_a_passcode_at_once_one_is_let_in(tmp_path, kind, time):
    with databases.database_url(kind, tmp_path) as url:
        identity = Identity(db_url=url, home=tmp_path / "home")
        ann = with_totp(identity, "ann")
        for _ in range(3):
            proof = passcode_of(ann)
            assert statuses(at_once(*[lambda proof=proof: login(identity, proof)] * 4)) == [201, 401, 401, 401]
            time.advance(30)
        identity.client.close()


# Rules and receipts ---------------------------------------------------------------------------------------------------


def test_a_login_in_two_parts(start):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES, "multi_factor_auth_enabled": True})
    assert ann["options"] == {"multi_factor_auth_rules": RULES, "multi_factor_auth_enabled": True}
    part = login(identity, password_of(ann))
    assert part.status == 401
    assert part.json == {
        "receipt": {
            "methods": ["password"],
            "user": {"id": ann["id"], "name": "ann", "domain": {"id": "default", "name": "Default"}},
            "issued_at": "2026-11-18T11:07:00.000000Z",
            "expires_at": "2026-11-18T11:12:00.000000Z",
        },
        "required_auth_methods": RULES,
    }
    receipt = part.headers["openstack-auth-receipt"]
    assert "x-subject-token" not in part.headers and receipt not in part.text
    whole = login(identity, passcode_of(ann), receipt)
    assert whole.status == 201
    assert whole.json["token"]["methods"] == ["password", "totp"]
    again = identity.exchange(whole.headers["x-subject-token"], "unscoped")
    assert again.status == 201
    assert again.json["token"]["methods"] == ["password", "totp", "token"], "another scope needs no more proof"


def test_a_login_in_one_part(start):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    both = login(identity, {**password_of(ann), **passcode_of(ann)})
    assert both.status == 201 and both.json["token"]["methods"] == ["password", "totp"]


def test_a_wrong_proof_gives_no_receipt(start):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    for proofs in (password_of(ann, "wrong"), {**password_of(ann), **passcode_of(ann, "")}, {**passcode_of(ann), **password_of(ann, "wrong")}):
        answer = login(identity, proofs)
        assert answer.status == 401 and answer.body == NO and "openstack-auth-receipt" not in answer.headers


def test_one_of_several_rules_is_enough_and_rules_can_be_switched_off(start, time):
    identity = start()
    rules = [["password", "totp"], ["totp", "application_credential"], ["totp", "token"]]
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": rules})
    part = login(identity, passcode_of(ann))
    assert part.json["required_auth_methods"] == rules
    assert login(identity, password_of(ann)).json["required_auth_methods"] == [["password", "totp"]]
    path = f"/users/{ann['id']}"
    identity("PATCH", path, {"user": {"options": {"multi_factor_auth_enabled": False}}}, ok=200)
    assert login(identity, password_of(ann)).status == 201
    identity("PATCH", path, {"user": {"options": {"multi_factor_auth_enabled": None}}}, ok=200)
    assert login(identity, password_of(ann)).status == 401
    identity("PATCH", path, {"user": {"options": {"multi_factor_auth_rules": [["password"]]}}}, ok=200)
    assert login(identity, password_of(ann)).status == 201
    identity("PATCH", path, {"user": {"options": {"multi_factor_auth_rules": None}}}, ok=200)
    assert identity("GET", path).json["user"]["options"] == {}
    assert login(identity, password_of(ann)).status == 201


def test_a_proof_that_is_in_no_rule_begins_nothing(start):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": [["totp"]]})
    assert login(identity, password_of(ann)).json["required_auth_methods"] == []


def test_a_receipt_of_somebody_else_is_none(start):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    bob = with_totp(identity, "bob", options={"multi_factor_auth_rules": RULES})
    receipt = login(identity, password_of(bob)).headers["openstack-auth-receipt"]
    stolen = login(identity, passcode_of(ann), receipt)
    assert stolen.status == 401 and stolen.body == NO


def test_receipts_and_tokens_are_not_taken_for_each_other(start, time):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    receipt = login(identity, password_of(ann)).headers["openstack-auth-receipt"]
    assert identity.validate(receipt).status == 404
    assert identity("GET", "/auth/projects", token=receipt).status == 401
    assert identity.exchange(receipt).status == 404
    token = login(identity, passcode_of(ann), receipt).headers["x-subject-token"]
    time.advance(30)
    for wrong in (token, identity.admin, "", "x", receipt[:-2], "ü", "a" * 2000, Fernet(Fernet.generate_key()).encrypt(b"x").decode()):
        answer = login(identity, passcode_of(ann), wrong)
        assert answer.status == 401 and answer.body == NO, wrong
        time.advance(30)


def test_a_receipt_ends_by_itself(start, time):
    identity = start(receipt_expiration=60)
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    receipt = login(identity, password_of(ann)).headers["openstack-auth-receipt"]
    time.advance(59)
    assert login(identity, passcode_of(ann), receipt).status == 201
    time.advance(1)
    late = login(identity, passcode_of(ann), receipt)
    assert late.status == 401 and late.body == NO


@pytest.mark.parametrize("change", [{"password": "next"}, {"enabled": False}])
def test_a_receipt_ends_with_the_password_and_with_the_user(start, time, change):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    receipt = login(identity, password_of(ann)).headers["openstack-auth-receipt"]
    time.advance(1)
    identity("PATCH", f"/users/{ann['id']}", {"user": change}, ok=200)
    identity("PATCH", f"/users/{ann['id']}", {"user": {"enabled": True}}, ok=200)
    assert login(identity, passcode_of(ann), receipt).body == NO


def test_an_old_token_does_not_stand_for_the_methods_it_was_made_without(start):
    identity = start()
    ann = with_totp(identity, "ann")
    token = identity.token("ann", "ann-secret", "unscoped")
    identity("PATCH", f"/users/{ann['id']}", {"user": {"options": {"multi_factor_auth_rules": RULES}}}, ok=200)
    answer = identity.exchange(token)
    assert answer.status == 401 and answer.body == NO
    with_passcode = login(identity, {"token": {"id": token}, **passcode_of(ann)})
    assert with_passcode.status == 201 and set(with_passcode.json["token"]["methods"]) == {"password", "token", "totp"}


def test_a_receipt_of_an_application_credential_keeps_its_bounds(start):
    identity = start()
    who, project, token = identity.member("ann")
    credential = {"type": "totp", "user_id": who["id"], "blob": SECRET}
    identity("POST", "/credentials", {"credential": credential}, ok=201)
    body = {"application_credential": {"name": "robot"}}
    made = identity("POST", f"/users/{who['id']}/application_credentials", body, token=token, ok=201).json["application_credential"]
    rules = [["application_credential", "totp"]]
    identity("PATCH", f"/users/{who['id']}", {"user": {"options": {"multi_factor_auth_rules": rules}}}, ok=200)
    part = login(identity, {"application_credential": {"id": made["id"], "secret": made["secret"]}}, scope=None)
    assert part.status == 401 and part.json["receipt"]["methods"] == ["application_credential"]
    receipt = part.headers["openstack-auth-receipt"]
    other = login(identity, passcode_of(who), receipt, scope={"project": {"id": identity.ids["admin_project"]}})
    assert other.status == 401
    clock.sleep(30)
    whole = login(identity, passcode_of(who), receipt, scope=None)
    assert whole.status == 201
    assert whole.json["token"]["project"]["id"] == project["id"]
    assert whole.json["token"]["application_credential"]["id"] == made["id"]


def test_a_receipt_ends_with_the_application_credential_and_so_does_its_token(start, time):
    identity = start()
    who, _project, token = identity.member("ann")
    credential = {"type": "totp", "user_id": who["id"], "blob": SECRET}
    identity("POST", "/credentials", {"credential": credential}, ok=201)
    proofs = []
    for seconds in (600, 60):
        body = {"name": f"for {seconds}", "expires_at": (clock.utcnow() + dt.timedelta(seconds=seconds)).isoformat()}
        made = identity("POST", f"/users/{who['id']}/application_credentials", {"application_credential": body}, token=token, ok=201)
        made = made.json["application_credential"]
        proofs.append({"application_credential": {"id": made["id"], "secret": made["secret"]}})
    rules = [["application_credential", "totp"]]
    identity("PATCH", f"/users/{who['id']}", {"user": {"options": {"multi_factor_auth_rules": rules}}}, ok=200)
    longer, shorter = (login(identity, proof, scope=None) for proof in proofs)
    assert longer.json["receipt"]["expires_at"] == "2026-11-18T11:12:00.000000Z", "by itself"
    assert shorter.json["receipt"]["expires_at"] == "2026-11-18T11:08:00.000000Z"
    time.advance(30)
    whole = login(identity, passcode_of(who), longer.headers["openstack-auth-receipt"], scope=None)
    assert whole.json["token"]["expires_at"] == "2026-11-18T11:17:00.000000Z"
    time.advance(30)
    late = login(identity, passcode_of(who), shorter.headers["openstack-auth-receipt"], scope=None)
    assert late.status == 401 and late.body == NO


def test_keys_of_receipts_are_rotated_with_those_of_tokens(start, tmp_path):
    identity = start()
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    before = sorted(file.name for file in (tmp_path / "keys" / "receipts").iterdir() if file.name.isdigit())
    receipt = login(identity, password_of(ann)).headers["openstack-auth-receipt"]
    keys.rotate(identity.service)
    after = sorted(file.name for file in (tmp_path / "keys" / "receipts").iterdir() if file.name.isdigit())
    assert (before, after) == (["0", "1"], ["0", "1", "2"])
    assert login(identity, passcode_of(ann), receipt).status == 201


def test_an_installation_from_before_gets_its_keys_of_receipts(start, tmp_path):
    identity = start()
    shutil.rmtree(tmp_path / "keys" / "receipts")
    ann = with_totp(identity, "ann", options={"multi_factor_auth_rules": RULES})
    receipt = login(identity, password_of(ann)).headers["openstack-auth-receipt"]
    assert login(identity, passcode_of(ann), receipt).status == 201


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_any_controller_takes_a_receipt(tmp_path, kind, time):
    with databases.database_url(kind, tmp_path) as url:
        here = Identity(db_url=url, home=tmp_path / "here")
        (tmp_path / "there" / "keys").mkdir(parents=True)
        shutil.copy(tmp_path / "here" / "keys" / "installation-secret", tmp_path / "there" / "keys")
        there = Identity(db_url=url, home=tmp_path / "there")
        ann = with_totp(here, "ann", options={"multi_factor_auth_rules": RULES})
        receipt = login(here, password_of(ann)).headers["openstack-auth-receipt"]
        assert not (tmp_path / "here" / "keys" / "receipts").exists()
        keys.rotate(here.service)
        assert login(there, passcode_of(ann), receipt).status == 201
        assert here.token("admin", PASSWORD)
        for made in (here, there):
            made.client.close()
