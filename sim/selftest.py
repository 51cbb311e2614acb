"""``irqscope test``: lint, types, tests."""

import os
import subprocess
import sys

from .cache import ROOT
from .toolchain import ToolError

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
)


def run_tests(pytest_arguments: tuple[str, ...]) -> int:
    """Run the checks and the tests of a checkout; the exit status for the shell.

    With arguments, pytest alone gets them.
    """
    if not (ROOT / "tests").is_dir():
        raise ToolError("the tests are not part of an installed package: run this in a checkout")
    failed = False
    if not pytest_arguments:
        for check in CHECKS:
            failed |= _run(sys.executable, "-m", *check) != 0
        pytest_arguments = ("-n", str(os.cpu_count() or 1), "tests", "sim")
    status = _run(sys.executable, "-m", "pytest", *pytest_arguments)
    if status > 1:  # no test matched, or pytest itself was asked something wrong
        return 2
    return status or int(failed)


def _run(*command: str) -> int:
    print(f"$ {' '.join(command[2:])}", flush=True)
    return subprocess.run(command, cwd=ROOT).returncode
