"""A worker behind a load balancer: asked to stop, it says so at /healthcheck and answers on until it has been taken out."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest
import urllib3

from pileus.kernel.config import load
from pileus.server import api, rooms
from tests.contracts.served import until


@pytest.fixture
def worker(tmp_path):
    """The pid and URL of an API worker with two seconds to drain."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    listener.setblocking(False)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    overrides = {"api": {"drain": 2.0}, "pileus": {"services": ["identity", "placement"]}}
    config = load(tmp_path, rooms.option_types(), environ={}, overrides=overrides)
    (tmp_path / "logs").mkdir()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            api.run(config, api.prepare(config), [listener], "api-0")
            code = 0
        finally:
            os._exit(code)
    listener.close()
    yield pid, url
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def answers(url):
    try:
        return urllib3.request("GET", url, retries=False, timeout=10.0)
    except urllib3.exceptions.HTTPError:
        return None


def test_a_worker_that_stops_says_so_and_answers_on(worker):
    pid, url = worker
    until(lambda: (answer := answers(f"{url}/healthcheck")) is not None and answer.status == 200, "the worker serves")
    os.kill(pid, signal.SIGTERM)
    until(lambda: answers(f"{url}/healthcheck").status == 503, "the worker says that it stops")
    assert json.loads(answers(f"{url}/healthcheck").data)["status"] == "stopping"
    assert answers(f"{url}/placement/").status == 200
    until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, "the worker has ended")
    assert answers(f"{url}/placement/") is None
