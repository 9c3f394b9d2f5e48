"""Runs the tests in several processes at once: much of their time passes in waiting.

`python tests/side_by_side.py [pytest's options]`. Each part is a run of pytest. Parts are started in their order, the
next one when a process is free; what a part printed is shown when the part has ended. A test that failed beside others
is run again alone at the end: some wait for processes that a busy machine starts late. The exit status is 0 if no test
failed there as well, and there was one. The last lines show what each part has cost.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

MARKERS = "not soak and not compose"
PROCESSES = 4
"""On two cores. Half of a part's time passes in waiting."""
_INTEGRATION = "tests/integration"
_ODD_TASKS = "tests/e2e/parity/test_odd_tasks.py"
_ROOT = Path(__file__).parents[1]
_FAULTS_OF_AIRFLOW = tuple(
    str(file.relative_to(_ROOT)) for file in sorted((_ROOT / "tests/faults").glob("test_airflow_*.py"))
)
_RELAY = f"{_INTEGRATION}/relay"
_RELAY_EDGE = tuple(f"{_RELAY}/{folder}" for folder in ("abuse", "http", "limits", "operators", "sign_in"))
PARTS: tuple[tuple[str, ...], ...] = (
    # The longest first, so that no process is alone at the end. What shares the whole system mostly waits.
    (*_FAULTS_OF_AIRFLOW, "tests/e2e", "--ignore=tests/e2e/docs", f"--ignore={_ODD_TASKS}"),
    ("tests/e2e/docs", f"{_INTEGRATION}/docs", f"{_INTEGRATION}/compose"),
    (_RELAY, *(f"--ignore={folder}" for folder in _RELAY_EDGE)),
    # These share one Airflow.
    ("tests/contract", *(f"{_INTEGRATION}/{folder}" for folder in ("logs", "doctor", "keeper"))),
    (f"{_INTEGRATION}/page", f"{_INTEGRATION}/dashboard"),
    (f"{_INTEGRATION}/worker",),
    _RELAY_EDGE,
    (_ODD_TASKS, *(f"{_INTEGRATION}/{folder}" for folder in ("executor", "task_host"))),
    ("tests/faults", *(f"--ignore={file}" for file in _FAULTS_OF_AIRFLOW)),
    (
        "tests/compat",
        "tests/property",
        *(f"{_INTEGRATION}/{folder}" for folder in ("broker", "bundles", "local", "metrics")),
    ),
    # No unit test may depend on another one: the order is random. Pytest prints the seed.
    ("-p", "randomly", "tests/unit"),
)
"""A session's fixtures are made again in each part that asks for them."""
FAILED, INTERRUPTED, NO_TESTS = 1, 2, 5
"""Pytest's exit statuses; the last one where the options choose none of a part's tests."""


class Runs:
    """The runs of pytest, of which some are under way."""

    def __init__(self, options: Sequence[str]) -> None:
        self._options = options
        self._running: set[subprocess.Popen[bytes]] = set()
        self._output = Lock()
        self._is_over = False
        self._began = time.monotonic()
        self._costs: list[tuple[float, float, str]] = []

    def run(self, part: Sequence[str], *options: str) -> int:
        """Run a part to its end and print its output; returns its exit status."""
        if self._is_over:
            return INTERRUPTED
        began = time.monotonic()
        # Folders of failed tests are kept over the parts that come later.
        kept = f"tmp_path_retention_count={2 * len(PARTS) + 1}"
        own_cache = f"cache_dir=.pytest_cache/part-{PARTS.index(tuple(part))}"
        settings = ("-m", MARKERS, "-o", kept, "-o", own_cache)
        command = [sys.executable, "-m", "pytest", *settings, *part, *options, *self._options]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            self._running.add(process)
            status, cpu_s = _wait(process)
            self._running.discard(process)
            output.seek(0)
            with self._output:
                seconds, name = time.monotonic() - began, " ".join([*part, *options])
                self._costs.append((cpu_s, seconds, name))
                title = f"\n### {seconds:.0f} s: {name}\n"
                sys.stdout.buffer.write(title.encode() + output.read())
                sys.stdout.buffer.flush()
        return status

    def costs(self) -> str:
        """A table of what was run, in seconds: CPU, with that of ended children, and time."""
        in_all = sum(cpu_s for cpu_s, _, _ in self._costs), time.monotonic() - self._began, "in all"
        rows = [*sorted(self._costs, reverse=True), in_all]
        lines = (f"{cpu_s:5.0f} {seconds:6.0f}  {_shortened(name)}" for cpu_s, seconds, name in rows)
        return "\n".join(["", "  CPU   time", *lines])

    def start_no_more(self, *_: object) -> None:
        """Ctrl-C reaches those that run, too: each ends by itself what it has started, and is waited for."""
        self._is_over = True

    def end(self, *_: object) -> None:
        """Start no more parts, and end those that run."""
        self.start_no_more()
        for process in list(self._running):
            process.terminate()


def _wait(process: "subprocess.Popen[bytes]") -> tuple[int, float]:
    """Its exit status, and the CPU seconds of it and of the children that it has waited for."""
    try:
        _, status, used = os.wait4(process.pid, 0)
    except ChildProcessError:  # `terminate` has noticed its end a moment before
        return process.wait(), 0.0
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_utime + used.ru_stime


def _shortened(name: str) -> str:
    words = (
        word.removeprefix("tests/").removeprefix("integration/") for word in name.split() if "--ignore" not in word
    )
    return " ".join(words)[:90]


def main(options: Sequence[str]) -> int:
    """Run all parts and return the exit status of the whole."""
    runs = Runs(options)
    signal.signal(signal.SIGINT, runs.start_no_more)
    signal.signal(signal.SIGTERM, runs.end)
    with ThreadPoolExecutor(PROCESSES) as pool:
        statuses = list(pool.map(runs.run, PARTS))
    failed = [part for part, status in zip(PARTS, statuses, strict=True) if status == FAILED]
    others = {status for status in statuses if status not in {FAILED, NO_TESTS}}
    again = {runs.run(part, "--last-failed") for part in failed}
    sys.stdout.write(f"{runs.costs()}\n")
    return max(others | again, key=abs, default=NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
