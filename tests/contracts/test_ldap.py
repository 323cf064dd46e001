"""LDAP against a real slapd: TLS, what the options say, and servers that are dead, wrong or silent."""

from __future__ import annotations

import time
import uuid

import pytest

from pileus.identity.drivers import ldap, ldap_entries
from pileus.identity.drivers.ldap_links import Broken, Circuit, Unsure
from pileus.identity.errors import DirectoryLimit, DirectoryUnavailable
from pileus.identity.wire import Ldap, Named, Wanted
from pileus.kernel import clock
from pileus.kernel.errors import Invalid
from tests.directories import ADMIN, GROUPS, PEOPLE, SECRET, SUFFIX, Slapd, make_certificates, silent_port


@pytest.fixture(scope="module")
def server():
    made = Slapd()
    made.add(ADMIN, "organizationalRole", "simpleSecurityObject", cn="admin", userPassword=SECRET)
    made.add_person("alice", "secret", description=["one", "two"], mail="alice@example.org", title="Dr", employeeType="staff")
    yield made
    made.close()


def options(server, **more):
    plain = dict(
        url=server.url, user=ADMIN, password=SECRET, suffix=SUFFIX, user_tree_dn=PEOPLE, group_tree_dn=GROUPS, user_id_attribute="uid",
        pool_connection_timeout=1, connection_timeout=1, pool_retry_delay=0.0,
    )  # fmt: skip
    return Ldap(**{**plain, **more})


def opened(server, **more):
    return ldap.open_directory(options(server, **more))


def ids(directory, **wanted):
    return sorted(one.local_id for one in directory.people(Wanted(**wanted)))


# TLS


@pytest.mark.parametrize("how", ["ldaps", "starttls"])
def test_tls_is_checked_against_the_given_authority(server, how):
    tls = {"url": server.tls_url} if how == "ldaps" else {"use_tls": True}
    directory = opened(server, tls_cacertfile=str(server.ca), **tls)
    (alice,) = directory.people(Wanted())
    assert directory.proves(alice, "secret")
    assert not directory.proves(alice, "wrong")


@pytest.mark.parametrize("how", ["ldaps", "starttls"])
def test_a_certificate_of_somebody_else_is_refused(server, how, tmp_path):
    tls = {"url": server.tls_url} if how == "ldaps" else {"use_tls": True}
    for authority in (None, str(make_certificates(tmp_path))):
        directory = opened(server, tls_cacertfile=authority, **tls)
        with pytest.raises(DirectoryUnavailable) as refused:
            list(directory.people(Wanted()))
        assert "CERTIFICATE_VERIFY_FAILED" in refused.value.inside
        assert "CERTIFICATE" not in refused.value.message, "the reason is for the log"
        with pytest.raises(DirectoryUnavailable):
            opened(server, tls_cacertfile=authority, **tls).proves(None, "secret")


def test_a_certificate_for_another_name_is_refused(server):
    port = server.tls_port
    (one,) = opened(server, url=f"ldaps://localhost:{port}", tls_cacertfile=str(server.ca)).people(Wanted())
    assert one.local_id == "alice"
    with pytest.raises(DirectoryUnavailable) as refused:
        list(opened(server, url=f"ldaps://127.0.0.2:{port}", tls_cacertfile=str(server.ca)).people(Wanted()))
    assert "127.0.0.2" in refused.value.inside


def test_checking_can_be_turned_off(server):
    for how in ("never", "allow"):
        assert ids(opened(server, url=server.tls_url, tls_req_cert=how)) == ["alice"]


def test_a_server_without_tls_is_not_spoken_to_in_the_clear(server):
    with pytest.raises(DirectoryUnavailable):
        list(opened(server, url=f"ldaps://127.0.0.1:{server.port}").people(Wanted()))


# Options


def test_attributes_are_shown_as_the_options_say(server):
    mapped = ["title:form_of_address", "employeeType:kind"]
    (alice,) = opened(server, user_additional_attribute_mapping=mapped).people(Wanted())
    assert alice.extra == {"email": "alice@example.org", "description": ["one", "two"], "form_of_address": "Dr", "kind": "staff"}
    (alice,) = opened(server, user_attribute_ignore=["email", "kind", "description"], user_additional_attribute_mapping=mapped).people(Wanted())
    assert alice.extra == {"form_of_address": "Dr"}
    project = {"user_default_project_id_attribute": "employeeType"}
    (alice,) = opened(server, **project).people(Wanted())
    assert alice.default_project_id is None, "upstream's default ignores it"
    (alice,) = opened(server, **project, user_attribute_ignore=[]).people(Wanted())
    assert alice.default_project_id == "staff"


def test_scope_filter_and_class_choose_the_entries(server):
    deep = server.add(f"ou=deep,{PEOPLE}", "organizationalUnit", ou="deep")
    server.add_person("below", "s", tree=deep)
    try:
        assert ids(opened(server)) == ["alice"]
        assert ids(opened(server, query_scope="sub")) == ["alice", "below"]
        assert ids(opened(server, query_scope="sub", user_filter="(!(uid=alice))")) == ["below"]
        assert ids(opened(server, user_objectclass="account2")) == ["alice"]
        assert ids(opened(server, user_objectclass="posixAccount")) == []
        assert ids(opened(server, user_tree_dn=deep)) == ["below"]
    finally:
        server.remove(f"uid=below,{deep}")
        server.remove(deep)


def test_aliases_are_followed_when_wanted(server):
    elsewhere = server.add(f"ou=elsewhere,{SUFFIX}", "organizationalUnit", ou="elsewhere")
    server.add_person("far", "s", tree=elsewhere)
    server.add(f"uid=link,{PEOPLE}", "alias", "extensibleObject", uid="link", aliasedObjectName=f"uid=far,{elsewhere}")
    try:
        assert ids(opened(server)) == ["alice"]
        assert ids(opened(server, alias_dereferencing="searching")) == ["alice", "far"]
        assert ids(opened(server, alias_dereferencing="always")) == ["alice", "far"]
        assert ids(opened(server, alias_dereferencing="finding")) == ["alice"]
    finally:
        for name in (f"uid=link,{PEOPLE}", f"uid=far,{elsewhere}", elsewhere):
            server.remove(name)


def test_who_is_enabled(server):
    made = {
        "yes": server.add_person("yes", enabled="TRUE"),
        "no": server.add_person("no", enabled="FALSE"),
        "unsaid": server.add_person("unsaid"),
        "normal": server.add_person("normal", userAccountControl="512"),
        "blocked": server.add_person("blocked", userAccountControl="514"),
    }
    server.add(f"cn=enabled_users,{PEOPLE}", "groupOfNames", cn="enabled_users", member=[made["no"]])
    server.add_group("workers", made["yes"], made["unsaid"])

    def enabled(**more):
        return sorted(one.local_id for one in opened(server, **more).people(Wanted(ids=tuple(made))) if one.enabled)

    mask = {"user_enabled_attribute": "userAccountControl", "user_enabled_mask": 2}
    try:
        assert enabled() == ["blocked", "normal", "unsaid", "yes"]
        assert enabled(user_enabled_default="False") == ["yes"]
        assert enabled(user_enabled_invert=True) == ["no"]
        assert enabled(user_enabled_invert=True, user_enabled_default="False") == ["blocked", "no", "normal", "unsaid"]
        assert enabled(**mask, user_enabled_default="512") == ["no", "normal", "unsaid", "yes"]
        assert enabled(**mask, user_enabled_default="514") == ["normal"]
        assert enabled(user_attribute_ignore=["enabled"]) == sorted(made)
        assert enabled(user_enabled_emulation=True) == ["no"]
        assert enabled(user_enabled_emulation=True, user_enabled_emulation_dn=f"cn=workers,{GROUPS}") == ["unsaid", "yes"]
        assert enabled(user_enabled_emulation=True, user_enabled_emulation_dn=f"cn=nothing,{GROUPS}") == []
        (team,) = opened(server).teams(Wanted(ids=("workers",)))
        found = opened(server, user_enabled_emulation=True).members_of(team)
        assert {one.local_id: one.enabled for one in found} == {"yes": False, "unsaid": False}
    finally:
        for name in (*made.values(), f"cn=enabled_users,{PEOPLE}", f"cn=workers,{GROUPS}"):
            server.remove(name)


def test_groups_whose_members_are_ids(server):
    server.add(f"cn=unix,{GROUPS}", "posixGroup", cn="unix", gidNumber="100", memberUid=["alice", "nobody"], description="of ids")
    posix = {
        "group_objectclass": "posixGroup",
        "group_member_attribute": "memberUid",
        "group_name_attribute": "cn",
        "group_members_are_ids": True,
    }
    try:
        directory = opened(server, **posix)
        (alice,) = directory.people(Wanted(ids=("alice",)))
        (team,) = directory.teams(Wanted())
        assert (team.name, team.description) == ("unix", "of ids")
        assert [one.local_id for one in directory.members_of(team)] == ["alice"]
        assert directory.teams_of([alice])["alice"] == [team]
        assert directory.teams_of([alice] * 5)["alice"] == [team]
        emulated = opened(
            server, **posix, user_enabled_emulation=True, user_enabled_emulation_dn=f"cn=unix,{GROUPS}", user_enabled_emulation_use_group_config=True
        )
        assert [one.enabled for one in emulated.people(Wanted(ids=("alice",)))] == [True]
    finally:
        server.remove(f"cn=unix,{GROUPS}")


def test_names_of_entries_may_hold_anything(server):
    odd = 'Müller, "Jörg" + <ß>;\\#='
    escaped = odd.replace("\\", "\\5C").replace(",", "\\2C").replace('"', "\\22").replace("+", "\\2B").replace("<", "\\3C")
    escaped = escaped.replace(">", "\\3E").replace(";", "\\3B").replace("=", "\\3D").replace("#", "\\23")
    name = server.add(f"cn={escaped},{PEOPLE}", "inetOrgPerson", cn=odd, sn=odd, uid="odd", userPassword="s")
    server.add(f"cn=odd\\2C group,{GROUPS}", "groupOfNames", cn="odd, group", ou="odd", member=[name])
    try:
        directory = opened(server)
        (person,) = directory.people(Wanted(ids=("odd",)))
        assert person.name == odd
        assert directory.proves(person, "s")
        (team,) = directory.teams_of([person])["odd"]
        assert team.local_id == "odd, group"
        assert directory.teams_of([person] * 5)["odd"] == [team]
        assert [one.local_id for one in directory.members_of(team)] == ["odd"]
        assert [one.local_id for one in opened(server, user_id_attribute="cn").people(Wanted(ids=(odd,)))] == [odd]
    finally:
        server.remove(name)
        server.remove(f"cn=odd\\2C group,{GROUPS}")


def test_an_id_of_several_values_is_the_one_the_entry_is_called_by(server):
    name = server.add(f"cn=second,{PEOPLE}", "inetOrgPerson", cn=["first", "second"], sn=["b", "a"], uid=["x", "y"])
    try:
        assert ids(opened(server, user_id_attribute="cn", user_filter="(sn=a)")) == ["second"]
        assert ids(opened(server, user_id_attribute="uid", user_filter="(sn=a)")) == [], "an id is not guessed"
        (person,) = opened(server, user_id_attribute="cn").people(Wanted(ids=("second",)))
        assert person.name == "a"
    finally:
        server.remove(name)


def test_binary_ids_of_active_directory(server):
    guid = uuid.uuid4()
    name = server.add_person("ad", "s", objectGUID=guid.bytes_le)
    try:
        (person,) = opened(server, user_id_attribute="objectGUID").people(Wanted(ids=(str(guid),)))
        assert (person.local_id, person.name) == (str(guid), "ad")
        assert ids(opened(server, user_id_attribute="objectGUID"), ids=("not-a-guid",)) == []
    finally:
        server.remove(name)


def test_pages_smaller_than_the_directory():
    server = Slapd(size_limit=20)
    try:
        server.add(ADMIN, "organizationalRole", "simpleSecurityObject", cn="admin", userPassword=SECRET)
        server.add_people(250, "p")
        for page_size in (7, 20, 100):
            assert len(ids(opened(server, page_size=page_size))) == 250
        assert len(ids(opened(server), ids=tuple(f"p{number:04}" for number in range(20)))) == 20
        with pytest.raises(DirectoryLimit):
            ids(opened(server))
        everybody = opened(server, page_size=20, user_enabled_emulation=True)
        assert len(ids(everybody)) == 250
    finally:
        server.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"url": "host"}, "ldap.url"),
        ({"url": "ldap://"}, "ldap.url"),
        ({"url": "ldap://a,ldap://b:99999"}, "ldap.url"),
        ({"url": "ldap://cn=admin:secret@host"}, "ldap.url holds no user and password"),
        ({"url": "ldap://host/dc=example?cn"}, "ldap.url"),
        ({"url": "ldaps://x", "use_tls": True}, "ldap.use_tls"),
        ({"user_filter": "uid=x"}, "ldap.user_filter"),
        ({"group_filter": "(&(a=b)"}, "ldap.group_filter"),
        ({"suffix": "example"}, "ldap.suffix"),
        ({"user_tree_dn": "ou=a,,dc=b"}, "ldap.user_tree_dn"),
        ({"chase_referrals": True}, "ldap.chase_referrals"),
        ({"user_enabled_mask": 2}, "ldap.user_enabled_default"),
        ({"user_additional_attribute_mapping": ["mail"]}, "attribute:name"),
        ({"user_additional_attribute_mapping": ["uid:id"]}, "'id'"),
        ({"user_additional_attribute_mapping": ["userPassword:pin"]}, "passwords are not shown"),
        ({"user_mail_attribute": "userPassword"}, "ldap.user_mail_attribute: passwords are not shown"),
        ({"user_name_attribute": "USERPASSWORD;lang-de"}, "ldap.user_name_attribute: passwords are not shown"),
        ({"user_id_attribute": "2.5.4.35"}, "ldap.user_id_attribute: passwords are not shown"),
        ({"user_default_project_id_attribute": "pin", "user_pass_attribute": "PIN"}, "passwords are not shown"),
        ({"user_description_attribute": "userPassword", "user_pass_attribute": "pin"}, "passwords are not shown"),
        ({"group_desc_attribute": "unicodePwd"}, "ldap.group_desc_attribute: passwords are not shown"),
        ({"group_additional_attribute_mapping": ["userPassword:pin"]}, "passwords are not shown"),
        ({"user_attribute_ignore": ["shoe_size"]}, "shoe_size"),
        ({"tls_cacertfile": "/no/such/file"}, "ldap.tls_cacertfile"),
        ({"tls_cacertdir": "/no/such/folder"}, "ldap.tls_cacertdir"),
    ],
)
def test_options_that_cannot_work_are_refused(wrong, says):
    with pytest.raises(Invalid) as refused:
        ldap.check(Ldap(**wrong))
    assert says in refused.value.message
    ldap.check(Ldap())


def test_filters_and_names_without_a_server():
    kind = ldap_entries.people_of(Ldap(user_filter="(a=b)"))
    found = ldap_entries.matching(kind, *ldap_entries.conditions(kind, Wanted(ids=("x*",), names=(Named("ö", "icontains"),))))
    assert found == "(&(objectClass=inetOrgPerson)(a=b)(cn=*)(sn=*\\c3\\b6*)(|(cn=x\\2a)))"
    assert ldap_entries.key_of("CN=A\\2C b , OU=x") == ldap_entries.key_of("cn=a\\, B,ou=X")
    assert ldap_entries.relative_name("cn=a+uid=b,ou=x") == "(&(cn=a)(uid=b))"
    assert ldap_entries.parts_of("cn= a=b\\,\\ ,ou=\\C3\\BC\\+") == [[("cn", "a=b, ")], [("ou", "ü+")]]
    assert ldap_entries.relative_name("nonsense") is None


# Servers that do not answer


def test_the_first_server_that_answers_is_used(server):
    with silent_port() as silent:
        directory = opened(server, url=f"ldap://127.0.0.1:1,ldap://127.0.0.1:{silent},{server.url}")
        assert ids(directory) == ["alice"]
        began = time.monotonic()
        for _ in range(3):
            directory._pool.clear()
            assert ids(directory) == ["alice"]
        assert time.monotonic() - began < 2.5, "it begins with the one that answered"


def test_a_wrong_account_and_a_missing_tree_are_no_empty_directory(server):
    for more in ({"url": "https://directory.example.org"}, {"password": "wrong"}, {"user": f"cn=nobody,{SUFFIX}"}, {"password": None}, {"user_tree_dn": f"ou=nothing,{SUFFIX}"}):
        with pytest.raises(DirectoryUnavailable) as refused:
            ids(opened(server, **more))
        assert SECRET not in refused.value.inside


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_nobody_waits_long_for_a_server_that_never_answers(server, scheme):
    with silent_port() as silent:
        directory = opened(server, url=f"{scheme}://127.0.0.1:{silent}")
        for question in (lambda: ids(directory), lambda: directory.proves(None, "x"), lambda: ids(directory)):
            with pytest.raises(DirectoryUnavailable):
                question()
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(DirectoryUnavailable):
            ids(directory)
    assert time.monotonic() - began < 10, "one has waited for all"


def test_a_server_that_freezes_is_noticed_and_used_again_when_it_thaws(monkeypatch):
    server = Slapd()
    try:
        server.add(ADMIN, "organizationalRole", "simpleSecurityObject", cn="admin", userPassword=SECRET)
        server.add_person("alice", "secret")
        directory = opened(server)
        (alice,) = directory.people(Wanted())
        server.freeze()
        with pytest.raises(DirectoryUnavailable):
            ids(directory)  # on a connection that was open before
        with pytest.raises(Broken):
            ids(directory)
        with pytest.raises(DirectoryUnavailable):
            directory.proves(alice, "secret")
        server.thaw()
        monkeypatch.setattr(directory._pool._circuit, "_again", 0.0)
        assert directory.proves(alice, "secret")
        server.kill()
        server.start()
        assert ids(directory) == ["alice"], "connections that died at rest are not used"
    finally:
        server.close()


def test_one_caller_at_a_time_finds_out():
    own = clock.VirtualClock()
    real = clock.use(own)
    try:
        circuit, tried = Circuit("x"), []

        def ask(outcome=None):
            try:
                with circuit.attempt():
                    tried.append(outcome)
                    if outcome is not None:
                        raise outcome
            except (DirectoryUnavailable, DirectoryLimit) as error:
                return type(error)

        assert ask(Unsure("busy")) is Unsure
        assert ask(Broken("dead")) is Broken
        assert ask() is DirectoryUnavailable, "nobody asks now"
        own.advance(4.9)
        assert ask() is DirectoryUnavailable
        own.advance(0.2)
        with circuit.attempt():
            assert ask() is DirectoryUnavailable, "somebody is at it"
            own.advance(60)
            assert ask() is DirectoryUnavailable, "and nobody else is, however long it takes"
        assert ask() is None, "it answers again"
        assert ask(Broken("dead")) is Broken
        own.advance(5.1)
        assert ask(DirectoryLimit()) is DirectoryLimit
        assert ask() is None, "an answer of any kind is one"
        assert len(tried) == 6
    finally:
        clock.use(real)


def test_without_pools_each_question_has_a_connection_of_its_own(server):
    directory = opened(server, use_pool=False, use_auth_pool=False)
    (alice,) = directory.people(Wanted())
    assert directory.proves(alice, "secret")
    assert (directory._pool._idle, directory._logins._idle) == ([], [])
    kept = opened(server)
    assert ids(kept) == ["alice"]
    assert kept.proves(alice, "secret")
    assert (len(kept._pool._idle), len(kept._logins._idle)) == (1, 1)
    kept.close()
    assert (kept._pool._idle, kept._logins._idle) == ([], [])
