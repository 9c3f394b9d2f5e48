"""Runs the tests in two processes: those of the whole system, which wait a lot, beside all others.

`python tests/side_by_side.py [pytest's options]`. What the second process prints comes when both have ended. The exit
status is 0 if no test failed, and there was one.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

FOLDERS = ("tests/unit", "tests/property", "tests/integration", "tests/faults", "tests/e2e")
"""Fast folders first, so that what is broken shows early."""
ALONE, BESIDE = "not soak and not compose and not e2e", "not soak and not compose and e2e"
NO_TESTS = 5
"""Pytest's exit status where the options choose none of a process's tests."""


def main(options: Sequence[str]) -> int:
    """Run both and return the exit status of the whole."""
    with tempfile.TemporaryFile() as output:
        beside = subprocess.Popen(_pytest(BESIDE, options), stdout=output, stderr=subprocess.STDOUT)
        alone = subprocess.Popen(_pytest(ALONE, options))
        # Ctrl-C reaches both of them: each ends by itself what it has started, and is waited for.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: _end(alone, beside))
        statuses = {alone.wait(), beside.wait()}
        output.seek(0)
        sys.stdout.buffer.write(output.read())
    return max(statuses - {NO_TESTS}, key=abs, default=NO_TESTS)


def _end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.terminate()


def _pytest(markers: str, options: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", "-m", markers, *FOLDERS, *options]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
