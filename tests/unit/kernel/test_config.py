"""Configuration: whatever is wrong stops the start with a sentence that names it."""

from typing import Annotated

import msgspec
import pytest

from pileus.kernel.config import Doc, load
from pileus.kernel.errors import ConfigurationError


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    color: Annotated[str, Doc("A color.")] = "blue"
    sizes: Annotated[list[str], Doc("Sizes.")] = msgspec.field(default_factory=list)
    count: Annotated[int, Doc("A number.")] = 3
    ratio: Annotated[float, Doc("A ratio.")] = 1.5
    loud: Annotated[bool, Doc("Whether it is loud.")] = False
    maybe: Annotated[str | None, Doc("Perhaps.")] = None


def read(home, text="", environ=None, **more):
    (home / "pileus.toml").write_text(text)
    return load(home, {"things": Options}, environ or {}, **more)


def test_defaults_stand_without_a_file(tmp_path):
    config = load(tmp_path, {"things": Options}, {})
    assert config.section("things") == Options()
    assert (config.api.port, config.base_url) == (5000, "http://127.0.0.1:5000")
    assert config.database_url("compute") == f"sqlite:///{tmp_path}/databases/compute.sqlite"


def test_the_environment_stands_above_the_file_and_overrides_above_both(tmp_path):
    text = '[things]\ncolor = "red"\ncount = 5\nsizes = ["s"]\n'
    environ = {"PILEUS_THINGS__COLOR": "green", "PILEUS_THINGS__SIZES": "m, l", "PILEUS_THINGS__LOUD": "true", "PILEUS_THINGS__RATIO": "2"}
    options = read(tmp_path, text, environ, overrides={"things": {"color": "black"}}).section("things")
    assert options == Options(color="black", count=5, sizes=["m", "l"], loud=True, ratio=2.0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[nonsense]\nx = 1", "unknown section [nonsense]"),
        ('[things]\ncolour = "red"', "colour"),
        ('[things]\ncount = "many"', "count"),
        ("[things]\ncount = 1.5", "count"),
        ("[things]\ncolor = 7", "color"),
        ('[things]\nsizes = "s"', "sizes"),
        ("[things]\nloud = 7", "loud"),
        ("things = 3", "[things]"),
        ("[api]\nport = 70000", "port"),
        ("[api]\nthreads = 0", "threads"),
        ('[api]\nendpoints = "port"', "endpoints"),
        ('[api]\ntrusted_proxies = ["10.0.0.0/33"]', "trusted_proxies"),
        ('[api]\nassertion_secret = "short"', "assertion_secret"),
        ('[api]\npublic_url = "cloud.example.org"', "public_url"),
        ('[api]\ncertificate = "/etc/x.pem"', "key"),
        ('[bus]\nurl = "redis://host"', "amqp://"),
        ('[bus]\nurl = "amqp://one;host"', "semicolon"),
        ('[bus]\nurl = "amqps://host"\ncertificate = "/etc/x.pem"', "key"),
        ('[bus]\nurl = "amqp://host"\nca = "/etc/x.pem"', "amqps://"),
        ('[bus]\nca = "/etc/x.pem"', "amqps://"),
        ("[bus]\nprefetch = 0", "prefetch"),
        ("not toml", "pileus.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, named):
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, text)
    assert named in str(refused.value)
    assert "pileus.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PILEUS_THINGS__COLOUR", "red", ["PILEUS_THINGS__COLOUR", "colour", "things"]),
        ("PILEUS_NONSENSE__X", "1", ["PILEUS_NONSENSE__X", "nonsense"]),
        ("PILEUS_THINGS__COUNT", "many", ["PILEUS_THINGS__COUNT", "count"]),
        ("PILEUS_THINGS__LOUD", "perhaps", ["PILEUS_THINGS__LOUD", "loud"]),
    ],
)
def test_a_wrong_environment_variable_is_named(tmp_path, variable, value, named):
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, "", {variable: value})
    for word in named:
        assert word in str(refused.value)


def test_an_environment_variable_for_a_section_that_is_no_table_is_no_crash(tmp_path):
    with pytest.raises(ConfigurationError, match="things"):
        read(tmp_path, "things = 3", {"PILEUS_THINGS__COLOR": "red"})


def test_other_variables_and_the_home_are_not_options(tmp_path):
    read(tmp_path, "", {"PILEUS_HOME": "/x", "PATH": "/bin", "OTHER__X": "1"})


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "pileus.toml").mkdir()
    with pytest.raises(ConfigurationError, match="pileus.toml"):
        load(tmp_path, {}, {})


def test_each_service_has_a_database_of_its_own(tmp_path):
    config = read(tmp_path, '[database]\nurl = "postgresql://db/pileus_{service}"')
    assert config.database_url("compute") == "postgresql://db/pileus_compute"
    config = read(tmp_path, '[database]\nurl = "postgresql://db/pileus"')
    with pytest.raises(ConfigurationError, match="{service}"):
        config.database_url("compute")


def test_addresses_for_clients_are_usable(tmp_path):
    assert read(tmp_path, '[api]\nhost = "0.0.0.0"').base_url == "http://127.0.0.1:5000"
    assert read(tmp_path, '[api]\nhost = "::"\nport = 80').base_url == "http://[::1]:80"
    config = read(tmp_path, '[api]\npublic_url = "https://cloud.example.org/"')
    assert (config.base_url, config.internal_url) == ("https://cloud.example.org", "http://127.0.0.1:5000")
