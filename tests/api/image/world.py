"""The image service in a test."""

from __future__ import annotations

import io
from typing import Any

from pileus.image.logic import data
from pileus.image.room import ROOM
from pileus.kernel.testing import MEMBER, Response, make_client

PATCH = "application/openstack-images-v2.1-json-patch"
OCTETS = "application/octet-stream"


class Images:
    def __init__(self, **options: Any) -> None:
        self.client = make_client(ROOM, **options)
        self.service = self.client.service

    def __call__(
        self, method: str, path: str, json: Any = None, *, as_: Any = MEMBER, ok: int | None = None, **options: Any
    ) -> Response:
        response = self.client.request(method, "/v2" + path, json=json, as_=as_, **options)
        assert ok is None or response.status == ok, f"{response.status} {response.text}"
        return response

    def create(self, name: str = "image", as_: Any = MEMBER, **values: Any) -> str:
        body = {"name": name, "disk_format": "raw", "container_format": "bare", **values}
        return self("POST", "/images", body, as_=as_, ok=201).json["id"]

    def put(self, image: str, content: bytes = b"0123456789", as_: Any = MEMBER, ok: int | None = 204, what: str = "file",
            **headers: str) -> Response:  # fmt: skip
        sent = {"Content-Type": OCTETS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self("PUT", f"/images/{image}/{what}", body=content, headers=sent, as_=as_, ok=ok)

    def patch(self, image: str, *operations: Any, as_: Any = MEMBER, ok: int | None = 200, kind: str = PATCH) -> Response:
        return self("PATCH", f"/images/{image}", list(operations), as_=as_, ok=ok, headers={"Content-Type": kind})

    def show(self, image: str, as_: Any = MEMBER) -> Any:
        return self("GET", f"/images/{image}", as_=as_, ok=200).json

    def names(self, query: str = "", as_: Any = MEMBER) -> list[str]:
        return [one["name"] for one in self("GET", f"/images?{query}", as_=as_, ok=200).json["images"]]

    @property
    def store(self) -> Any:
        return data.data_store(self.service)

    def stream(self, image: str, source: Any, **headers: str) -> int:
        """An upload from anything with `read`; its status."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "PUT", "SCRIPT_NAME": "/image", "PATH_INFO": f"/v2/images/{image}/file", "QUERY_STRING": "",
            "SERVER_NAME": "localhost", "SERVER_PORT": "1", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
            "wsgi.input": source, "wsgi.input_terminated": True, "wsgi.errors": io.StringIO(), "wsgi.version": (1, 0),
            "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False, "CONTENT_TYPE": OCTETS,
            "HTTP_TRANSFER_ENCODING": "chunked", "pileus.context": MEMBER, **headers,
        }  # fmt: skip
        started: list[int] = []
        b"".join(self.client.app(environ, lambda status, _headers, _exc=None: started.append(int(status[:3]))))
        return started[0]


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}
