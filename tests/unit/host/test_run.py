"""Host commands: what they say, and how they fail."""

from __future__ import annotations

import pytest

from pileus.host.run import CommandFailed, CommandMissing, CommandTimeout, run


def test_a_command_gives_its_code_and_both_outputs() -> None:
    done = run(["sh", "-c", "cat; echo no >&2; exit 3"], stdin="yes", ok=(0, 3))
    assert (done.code, done.stdout, done.stderr) == (3, "yes", "no\n")


def test_a_failure_says_what_was_run_and_what_it_said() -> None:
    with pytest.raises(CommandFailed, match=r"`sh -c 'echo why >&2; exit 2'` ended with 2 and said: why") as caught:
        run(["sh", "-c", "echo why >&2; exit 2"])
    assert (caught.value.code, caught.value.stderr) == (2, "why\n")


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(CommandMissing, match="no-such-program is not there"):
        run(["no-such-program", "x"])


def test_a_command_that_takes_too_long_is_killed() -> None:
    with pytest.raises(CommandTimeout, match="did not end within 0.05 s"):
        run(["sleep", "60"], timeout=0.05)


def test_texts_are_in_english_whatever_the_users_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL"]).stdout == "C\n"
