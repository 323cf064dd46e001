"""What the image service refuses."""

from __future__ import annotations

from pileus.kernel.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    OverQuota,
    RangeNotSatisfiable,
    TooLarge,
    UnsupportedMedia,
)


class BadRequest(Invalid):
    pass


class ImageNotFound(NotFound):
    """No such image, or none that this caller may know of."""

    def __init__(self, image_id: str, message: str = "") -> None:
        super().__init__(message or f"No image found with ID {image_id}")


class MemberNotFound(NotFound):
    def __init__(self, image_id: str, member: str) -> None:
        super().__init__(f"{member} not found in the member list of the image {image_id}.")


class TagNotFound(NotFound):
    pass


class NotPermitted(Forbidden):
    """The image is visible, and this may not be done with it."""


class Duplicate(Conflict):
    pass


class WrongStatus(Conflict):
    """The image is not in a state in which this can be done."""


class StatusForbids(Forbidden):
    """As WrongStatus, where the API answers 403."""


class WrongFormat(UnsupportedMedia):
    """The data is not what the image's disk format says, or is dangerous to use."""


class DataTooLarge(TooLarge):
    """A size limit or a storage quota would be passed."""


class LimitExceeded(TooLarge):
    """Too many properties, tags or members: glance answers 413 to these."""


class CountExceeded(OverQuota, TooLarge):
    """The project has as many images as it may have."""

    status = 413


class ImageGone(Gone):
    """The image was deleted while its data was on its way."""


class BadRange(RangeNotSatisfiable):
    pass
