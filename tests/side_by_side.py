"""Runs the tests in three processes at once: most of their time passes in waiting.

`python tests/side_by_side.py [pytest's options]`. What the first process prints comes as it is printed, what the
others print when all have ended. The exit status is 0 if no test failed, and there was one.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

MARKERS = "not soak and not compose"
_INTEGRATION = "tests/integration"
PARTS = (
    # Fast folders first, so that what is broken shows early.
    (
        *("tests/unit", "tests/compat", "tests/contract"),
        *(f"{_INTEGRATION}/{folder}" for folder in ("broker", "relay", "executor", "logs")),
    ),
    tuple(f"{_INTEGRATION}/{folder}" for folder in ("dashboard", "doctor", "keeper", "local", "task_host", "worker")),
    (
        *(f"{_INTEGRATION}/{folder}" for folder in ("compose", "docs", "metrics", "page")),
        *("tests/property", "tests/faults", "tests/e2e"),
    ),
)
"""About as long as each other. A session's fixtures are made again in each part that asks for them."""
NO_TESTS = 5
"""Pytest's exit status where the options choose none of a part's tests."""


def main(options: Sequence[str]) -> int:
    """Run all parts and return the exit status of the whole."""
    with ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in PARTS[1:]]
        parts = [
            subprocess.Popen(
                [sys.executable, "-m", "pytest", "-m", MARKERS, *part, *options],
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
            )
            for part, output in zip(PARTS, [None, *outputs], strict=True)
        ]
        # Ctrl-C reaches all of them: each ends by itself what it has started, and is waited for.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: _end(parts))
        statuses = {part.wait() for part in parts}
        for output in outputs:
            output.seek(0)
            sys.stdout.buffer.write(output.read())
    return max(statuses - {NO_TESTS}, key=abs, default=NO_TESTS)


def _end(parts: Sequence[subprocess.Popen[bytes]]) -> None:
    for part in parts:
        part.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
