"""The image service as other services call it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from pileus.clients.base import Client, PeerNotFound, PeerUnavailable

_PIECE = 1 << 20
_OCTETS = "application/octet-stream"


class ImageClient(Client):
    """Images by their id, as the API shows them."""

    def show(self, image_id: str) -> dict[str, Any]:
        """Raises PeerNotFound."""
        return dict(self.get(f"/v2/images/{image_id}"))

    def list(self, **query: Any) -> Iterator[dict[str, Any]]:
        """All images that meet the API's filters, page after page."""
        query.setdefault("limit", 1000)
        while True:
            page = self.get("/v2/images", query)
            yield from page["images"]
            if "next" not in page:
                return
            query["marker"] = page["images"][-1]["id"]

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A new record without data; the service's own user may name another project as `owner`."""
        return dict(self.post("/v2/images", dict(body)))

    def update(self, image_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Set attributes and properties."""
        patch = [
            {"op": "add", "path": "/" + name.replace("~", "~0").replace("/", "~1"), "value": value}
            for name, value in changes.items()
        ]
        kind = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        return dict(self.patch(f"/v2/images/{image_id}", patch, headers=kind))

    def remove(self, image_id: str) -> None:
        """Delete an image; nothing happens when it is gone already."""
        try:
            self.delete(f"/v2/images/{image_id}")
        except PeerNotFound:
            return

    def download(self, image_id: str, start: int = 0) -> Iterator[bytes]:
        """The data from byte `start` on, in pieces.

        Raises PeerNotFound for an image without data, PeerUnavailable when the data breaks off.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self.stream(f"/v2/images/{image_id}/file", headers)
        if answer.status == 204:
            raise PeerNotFound(f"Image {image_id} has no data.", status=404)
        expected = int(answer.headers.get("content-length", -1))
        return _whole(answer.body, expected)

    def upload(self, image_id: str, data: BinaryIO | Iterator[bytes]) -> None:
        """Fill a queued image from a file or pieces; over HTTP the data is sent as it comes.

        Raises PeerConflict unless the image is queued, PeerInvalid for data that is not what the image says.
        """
        pieces = data if hasattr(data, "__next__") else _pieces_of(data)
        self.request("PUT", f"/v2/images/{image_id}/file", pieces, headers={"Content-Type": _OCTETS}).read()


def _pieces_of(file: Any) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _whole(body: Iterator[bytes], expected: int) -> Iterator[bytes]:
    """The pieces of a body that must have so many bytes (-1: any)."""
    size = 0
    for piece in body:
        size += len(piece)
        yield piece
    if expected not in {-1, size}:
        raise PeerUnavailable(f"The image data broke off after {size} of {expected} bytes.", status=503)
