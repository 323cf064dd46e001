"""Which bus the processes of an installation get."""

import builtins

import pytest

from pileus.kernel.bus import LocalBus
from pileus.kernel.config import load
from pileus.kernel.errors import ConfigurationError
from pileus.server.assembly import make_bus

RABBIT = {"bus": {"url": "amqp://127.0.0.1:1/"}}


def test_without_a_broker_it_is_sockets_below_the_home(tmp_path):
    bus = make_bus(load(tmp_path, {}, {}), "api")
    assert isinstance(bus, LocalBus)
    assert bus.node.endswith(":api")


def test_with_a_broker_it_is_rabbitmq_and_nothing_is_opened_before_the_first_use(tmp_path):
    pytest.importorskip("kombu")
    from pileus.kernel.bus.rabbitmq import RabbitBus

    bus = make_bus(load(tmp_path, {}, {}, RABBIT), "api")
    assert isinstance(bus, RabbitBus)
    assert bus._thread is None
    bus.close()


def test_a_missing_client_library_is_a_sentence(tmp_path, monkeypatch):
    real = builtins.__import__

    def poor(name, *arguments, **more):
        if name == "pileus.kernel.bus.rabbitmq":
            raise ModuleNotFoundError("No module named 'amqp'")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", poor)
    with pytest.raises(ConfigurationError, match="pileus\\[rabbitmq\\]"):
        make_bus(load(tmp_path, {}, {}, RABBIT), "api")
