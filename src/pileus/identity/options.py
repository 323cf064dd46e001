"""[identity]: upstream's defaults where it has the option."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from pileus.kernel.config import Doc

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    token_expiration: Annotated[int, Doc("Seconds for which a token is valid.")] = 3600
    allow_expired_window: Annotated[
        int, Doc("Seconds after its end in which a service may still validate a token with allow_expired=1.")
    ] = 172800
    allow_rescope_scoped_token: Annotated[bool, Doc("Whether a scoped token may be exchanged for another scope.")] = (
        True
    )
    max_active_keys: Annotated[int, Doc("Token keys kept by a rotation: staged, primary and secondaries.")] = 3
    default_domain_id: Annotated[str, Doc("Domain of new users, groups and projects when nothing names one.")] = (
        "default"
    )
    list_limit: Annotated[int, Doc("Most entries of one list; 0 is no limit. A list cut short says truncated.")] = 0
    max_project_tree_depth: Annotated[int, Doc("Levels of projects below a domain.")] = 5
    max_password_length: Annotated[int, Doc("Longest password in characters.")] = 4096
    password_hash_memory: Annotated[int, Doc("KiB of memory of one argon2id hash.")] = 19456
    password_hash_time: Annotated[int, Doc("Passes of one argon2id hash.")] = 2
    concurrent_hashes: Annotated[
        int, Doc("Password hashes computed at once in one process; 0 is the number of cores.")
    ] = 0
    validated_tokens: Annotated[int, Doc("Validated tokens remembered by each process, about 3 KiB each.")] = 1000
    prohibited_implied_roles: Annotated[list[str], Doc("Names of roles that no other role may imply.")] = msgspec.field(
        default_factory=lambda: ["admin"]
    )
    immutable_default_roles: Annotated[
        bool, Doc("Whether the roles of the initial content cannot be changed or deleted.")
    ] = True
    return_all_endpoints_if_no_filter: Annotated[
        bool, Doc("Whether the catalog of a project that is given no endpoints shows all of them, or none.")
    ] = True
    credential_auth_ttl: Annotated[int, Doc("Minutes for which a request signed with an EC2 key is accepted.")] = 15
    saml_idp_entity_id: Annotated[
        str,
        Doc(
            "URI that names this cloud as an identity provider to others (keystone-to-keystone), such as"
            " https://cloud.example.com/identity/v3/OS-FEDERATION/saml2/idp. It is none when empty."
        ),
        msgspec.Meta(max_length=1024, pattern=r"^([A-Za-z][A-Za-z0-9+.-]*:[!-~]+)?$"),
    ] = ""
    saml_idp_sso_endpoint: Annotated[
        str,
        Doc("URL of single sign-on that the metadata names, which cannot do without one."),
        msgspec.Meta(max_length=1024, pattern=r"^(https?://[!-~]+)?$"),
    ] = ""
    saml_idp_lang: Annotated[
        str, Doc("Language of the organization's names in the metadata."), msgspec.Meta(pattern="^[A-Za-z0-9-]{1,35}$")
    ] = "en"
    saml_idp_organization_name: Annotated[
        str, Doc("Name of the organization in the metadata, in which there is none unless all three of it are given.")
    ] = ""
    saml_idp_organization_display_name: Annotated[str, Doc("Name of the organization as people are shown it.")] = ""
    saml_idp_organization_url: Annotated[str, Doc("Web site of the organization.")] = ""
    saml_idp_contact_company: Annotated[str, Doc("Company of the contact person in the metadata.")] = ""
    saml_idp_contact_name: Annotated[str, Doc("Given name of the contact person.")] = ""
    saml_idp_contact_surname: Annotated[str, Doc("Surname of the contact person.")] = ""
    saml_idp_contact_email: Annotated[str, Doc("E-mail address of the contact person.")] = ""
    saml_idp_contact_telephone: Annotated[str, Doc("Telephone number of the contact person.")] = ""
    saml_idp_contact_type: Annotated[
        Literal["technical", "support", "administrative", "billing", "other"], Doc("What the contact person is there for.")
    ] = "other"
    saml_assertion_expiration_time: Annotated[
        int, Doc("Seconds for which an assertion is good; no longer than the token it was made from."), msgspec.Meta(ge=1)
    ] = 3600
    saml_certfile: Annotated[
        str, Doc("Path of the certificate (PEM) of the key that signs assertions; a pair of Pileus' own when empty.")
    ] = ""
    saml_keyfile: Annotated[str, Doc("Path of that RSA key (PEM).")] = ""
    saml_relay_state_prefix: Annotated[
        str, Doc("What RelayState begins with, for service providers that say nothing else."), msgspec.Meta(max_length=256)
    ] = "ss:mem:"
    application_credential_limit: Annotated[int, Doc("Application credentials of one user; -1 is no limit.")] = -1
    node_certificate_days: Annotated[
        int, Doc("Days for which the certificate of a node is good."), msgspec.Meta(ge=1, le=3650)
    ] = 365
    directory_interval: Annotated[
        float, Doc("Minutes after which known users and groups of LDAP domains are compared with the directory."), msgspec.Meta(gt=0)
    ] = 15.0
    lockout_failure_attempts: Annotated[
        _Count, Doc("Wrong passwords or passcodes in a row that lock a user out of both; 0 locks nobody.")
    ] = 0
    lockout_duration: Annotated[
        _Count, Doc("Seconds for which a user stays locked; 0 is until an administrator enables the user again.")
    ] = 1800
    password_expires_days: Annotated[_Count, Doc("Days for which a new password is good; 0 is for ever.")] = 0
    unique_last_password_count: Annotated[
        _Count, Doc("Passwords of a user, the present one among them, that a user's own new one must differ from.")
    ] = 0
    minimum_password_age: Annotated[
        _Count, Doc("Days that users keep a password which they chose before they may change it.")
    ] = 0
    password_regex: Annotated[str, Doc("Regular expression that new passwords match from their beginning.")] = ""
    password_regex_description: Annotated[
        str, Doc("What users are told whose password does not match, in plain words.")
    ] = ""
    change_password_upon_first_use: Annotated[
        bool, Doc("Whether users have to change a password that an administrator gave them before they can log in.")
    ] = False
    disable_user_account_days_inactive: Annotated[
        _Count, Doc("Days without a login after which a user counts as disabled; 0 is never.")
    ] = 0
    totp_included_previous_windows: Annotated[
        int, Doc("Time windows of 30 s before the present one whose TOTP passcode is still good."), msgspec.Meta(ge=0, le=10)
    ] = 1
    receipt_expiration: Annotated[
        int,
        Doc("Seconds in which a login of several methods has to be completed after the first of them."),
        msgspec.Meta(ge=1),
    ] = 300
    failed_logins: Annotated[
        _Count,
        Doc("Failed logins of one user from one address in a window after which more have to wait; 0 is no limit."),
    ] = 30
    failed_logins_window: Annotated[int, Doc("Seconds of that window."), msgspec.Meta(ge=1)] = 60
    request_token_duration: Annotated[
        int, Doc("OAuth 1.0: seconds in which a user may authorize a consumer; 0 is no limit."), msgspec.Meta(ge=0)
    ] = 28800
    access_token_duration: Annotated[
        int, Doc("OAuth 1.0: seconds for which a consumer may get tokens of the user; 0 is no limit."), msgspec.Meta(ge=0)
    ] = 86400
    token_provider: Annotated[
        Literal["fernet", "jws"],
        Doc("Kind of new tokens: short encrypted ones, or signed ones (JWT with ES256) that anybody can read."),
    ] = "fernet"
    limit_enforcement_model: Annotated[
        Literal["flat", "strict_two_level"],
        Doc(
            "Unified limits: \"flat\" ones have nothing to do with each other; with \"strict_two_level\" no project's is above "
            "its domain's, and below a domain are two levels of projects at most."
        ),
    ] = "flat"
    max_redelegation_count: Annotated[
        int, Doc("How often a trust may be passed on at most; 0 is never."), msgspec.Meta(ge=0, le=100)
    ] = 3
    default_authorization_ttl: Annotated[
        int,
        Doc(
            "Minutes after a login for which groups of a federated user count, where the identity provider has no"
            " authorization_ttl; never less than a token is valid."
        ),
        msgspec.Meta(ge=0),
    ] = 0
    remote_id_attributes: Annotated[
        dict[str, str],
        Doc(
            'Attributes of assertions that name the identity provider, by protocol; that of "*" for all others. A protocol\'s'
            " own remote_id_attribute goes above it."
        ),
    ] = msgspec.field(
        default_factory=lambda: {"openid": "HTTP_OIDC_ISS", "oidc": "HTTP_OIDC_ISS", "saml2": "HTTP_MELLON_IDP"}
    )
    oauth2_authn_methods: Annotated[
        list[Literal["tls_client_auth", "client_secret_basic"]],
        Doc("How clients of OAuth 2.0 may prove who they are: by a certificate, by a secret."),
    ] = msgspec.field(default_factory=lambda: ["tls_client_auth", "client_secret_basic"])
    oauth2_cert_dn_mapping_id: Annotated[
        str, Doc("Mapping that says whose a client certificate is, by SSL_CLIENT_SUBJECT_DN_CN and the like.")
    ] = "oauth2_mapping"
    trusted_dashboard: Annotated[
        list[str], Doc("URLs to which a token may be handed after a login in the browser, as dashboards write them.")
    ] = msgspec.field(default_factory=list)
    remote_user_header: Annotated[
        str,
        Doc(
            "Header (one of api.assertion_headers) in which a trusted proxy names the user; the method external is off"
            " without it."
        ),
    ] = ""
    remote_domain_header: Annotated[
        str, Doc("Header in which a trusted proxy names that user's domain; the default domain without it.")
    ] = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.password_regex)
        except re.error as error:
            raise ValueError(f"password_regex {self.password_regex!r} is no regular expression: {error}") from error
        if 0 < self.password_expires_days <= self.minimum_password_age:
            raise ValueError(
                "minimum_password_age has to be smaller than password_expires_days: nobody could change a password in time"
            )
        if bool(self.saml_certfile) != bool(self.saml_keyfile):
            raise ValueError("saml_certfile and saml_keyfile belong together: one of them is missing")
        for name in self.__struct_fields__:
            if name.startswith("saml_") and not str(getattr(self, name)).isprintable():
                raise ValueError(f"{name} has characters in it that cannot be printed")
