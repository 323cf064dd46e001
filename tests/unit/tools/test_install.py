"""`make install`: what is there is left alone."""

import sys

import pytest

from tests.sandbox import TOP, Sandbox

sys.path.insert(0, str(TOP / "tools"))
import install


def test_a_second_installation_changes_nothing_and_needs_no_network(host: Sandbox) -> None:
    lines = host.run([TOP / "tools/install", "dev"]).stdout.splitlines()
    assert lines
    assert all(" ... there (" in line for line in lines), lines


def test_an_unknown_argument_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(["everything"]) == 2
    assert "unknown argument everything" in capsys.readouterr().err


def test_a_policy_for_daemons_is_put_back_after_packages_were_installed(tmp_path, monkeypatch) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("the administrator's")
    monkeypatch.setattr(install, "POLICY", policy)
    with install.no_daemons():
        assert "exit 101" in policy.read_text()
        assert policy.stat().st_mode & 0o111
    assert policy.read_text() == "the administrator's"


def test_a_policy_that_was_not_there_is_gone_afterwards_even_when_apt_fails(tmp_path, monkeypatch) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(install, "POLICY", policy)
    with pytest.raises(install.Failed), install.no_daemons():
        raise install.Failed("apt")
    assert list(tmp_path.iterdir()) == []


def test_a_requirement_that_is_not_met_is_noticed() -> None:
    assert install.distributions_present(install.VENV, ["falcon>=4"], [])
    assert not install.distributions_present(install.VENV, ["falcon>=4000"], [])
    assert not install.distributions_present(install.VENV, ["no-such-distribution"], [])
