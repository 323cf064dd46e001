"""`python -m tests.sandbox COMMAND...`: run a command in a fresh sandbox, in this directory; without one, a shell."""

from __future__ import annotations

import os
import shutil
import sys

from tests.sandbox import Sandbox, inside, possible


def main(argv: list[str]) -> int:
    if argv[:1] == ["--"]:
        argv = argv[1:]
    if inside():
        os.execvp(argv[0], argv)
    if not possible():
        print("a sandbox needs root", file=sys.stderr)
        return 2
    argv = argv or [os.environ.get("SHELL", "/bin/bash")]
    own = os.path.join(os.path.dirname(sys.executable), argv[0])
    if "/" not in argv[0] and (os.path.exists(own) or not shutil.which(argv[0])):
        argv = [own, *argv[1:]]
    with Sandbox() as host:
        return host.popen(argv, cwd=os.getcwd()).wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
