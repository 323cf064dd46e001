"""The methods of authentication: each proves one user from its own section of the request.

A method raises AuthenticationFailed when the proof fails, Invalid when its section cannot be read;
that of tokens raises TokenNotFound.
"""

from __future__ import annotations

from collections.abc import Callable

from pileus.identity.logic.proofs import Attempt, Section, Who

from . import application_credential, external, mapped, oauth1, password, token, totp

Method = Callable[[Attempt, Section], Who]

METHODS: dict[str, Method] = {
    "password": password.check,
    "token": token.check,
    "application_credential": application_credential.check,
    "totp": totp.check,
    "oauth1": oauth1.check,
    "mapped": mapped.check,
    "external": external.check,
}
