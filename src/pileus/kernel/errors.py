"""Domain errors. Rooms raise them; `kernel.web.faults` alone turns them into HTTP.

Each error carries an outside sentence (`message`, for the user) and may carry an inside text (for the log only).
"""

from __future__ import annotations

from collections.abc import Mapping


class Failure(Exception):
    """Something the caller has to hear about.

    `code` is the service's own stable name for it: neutron's error type, placement's error code.
    """

    status = 500

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        inside: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or getattr(type(self), "default_code", "")
        self.inside = inside
        self.headers = dict(headers or {})


class Invalid(Failure):
    """The request cannot be understood or is not allowed in this form."""

    status = 400


class Unauthorized(Failure):
    """Nobody known is asking."""

    status = 401


class Forbidden(Failure):
    """The caller is known and may not do this."""

    status = 403


class OverQuota(Forbidden):
    """A limit of the project would be exceeded."""


class NotFound(Failure):
    status = 404


class MethodNotAllowed(Failure):
    status = 405


class NotAcceptable(Failure):
    status = 406


class UploadBroken(Failure, ConnectionError):
    """The client broke off or stalled in the middle of its body. Hardly anybody is there to hear it."""

    status = 408


class Conflict(Failure):
    """The state of the resource does not allow it now."""

    status = 409


class Gone(Failure):
    status = 410


class PreconditionFailed(Failure):
    status = 412


class TooLarge(Failure):
    status = 413


class UnsupportedMedia(Failure):
    status = 415


class RangeNotSatisfiable(Failure):
    status = 416


class Unprocessable(Failure):
    status = 422


class TooManyRequests(Failure):
    """Whoever asks has to wait."""

    status = 429

    def __init__(self, message: str = "", *, retry_after: int = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class Internal(Failure):
    """Our own fault; the user sees a plain sentence, the log the rest."""

    status = 500


class NotImplementedHere(Failure):
    status = 501


class Unavailable(Failure):
    """A part that is needed does not answer now; trying again may help."""

    status = 503

    def __init__(self, message: str = "", *, retry_after: int = 5, code: str = "", inside: str = "") -> None:
        super().__init__(message, code=code, inside=inside, headers={"Retry-After": str(retry_after)})


class ConfigurationError(Exception):
    """The configuration is wrong; the sentence names the option and what to write instead."""


class ProgrammingError(RuntimeError):
    """A rule of the house was broken: a call inside a transaction, a handler that forgot to authorize."""
