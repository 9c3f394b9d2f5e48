"""Runs the tests in several processes at once: much of their time passes in waiting.

`python tests/side_by_side.py [pytest's options]`. Each part is a run of pytest. Parts are started in their order, the
next one when a process is free; what a part printed is shown when the part has ended. A test that failed beside others
is run again alone at the end: some wait for processes that a busy machine starts late. The exit status is 0 if no test
failed there as well, and there was one. The last lines show what each part has cost, which tests passed only when they
were run again, and how many tests passed, failed and were skipped.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from xml.etree import ElementTree as ET

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

Results = dict[str, str]
"""What became of each test, by its name: passed, failed or skipped."""


def read_results(report: Path) -> Results:
    """The results in pytest's report; none if it wrote none, because it was ended."""
    if not report.exists() or not report.stat().st_size:
        return {}
    results: Results = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('file')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        # A test that fails and one of whose fixtures fails as well has two entries.
        if kinds & {"failure", "error"} or results.get(name) == "failed":
            results[name] = "failed"
        else:
            results[name] = "skipped" if "skipped" in kinds else "passed"
    return results


def summary(beside: Results, alone: Results, seconds: float) -> str:
    """The last lines: the tests that only one of both runs has passed, those that have failed, and all in numbers."""
    ended = beside | alone
    failed = [name for name, result in ended.items() if result == "failed"]
    flaky = [name for name, result in ended.items() if beside.get(name) == "failed" and result != "failed"]
    lines = []
    for title, names in (("passed only when run again, alone", flaky), ("failed", failed)):
        if names:
            lines += [f"\n{len(names)} {title}:", *(f"  {name}" for name in sorted(names))]
    numbers = Counter(ended.values())
    parts = [f"{numbers[result]} {result}" for result in ("failed", "passed", "skipped") if numbers[result]]
    if flaky:
        parts.append(f"{len(flaky)} of the passed only when run again")
    return "\n".join([*lines, f"\n{', '.join(parts) or 'no tests ran'} in {seconds:.0f} s"])


class Runs:
    """The runs of pytest, of which some are under way."""

    def __init__(self, options: Sequence[str]) -> None:
        self._options = options
        self._running: set[subprocess.Popen[bytes]] = set()
        self._output = Lock()
        self._is_over = False
        self._began = time.monotonic()
        self._costs: list[tuple[float, float, str]] = []

    def run(self, part: Sequence[str], *options: str) -> tuple[int, Results]:
        """Run a part to its end and print its output; returns its exit status, and what became of its tests."""
        if self._is_over:
            return INTERRUPTED, {}
        began = time.monotonic()
        # Folders of failed tests are kept over the parts that come later.
        kept = f"tmp_path_retention_count={2 * len(PARTS) + 1}"
        own_cache = f"cache_dir=.pytest_cache/part-{PARTS.index(tuple(part))}"
        settings = ("-m", MARKERS, "-o", kept, "-o", own_cache)
        with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile() as report:
            # The older format names the file of each test.
            reported = (f"--junitxml={report.name}", "-o", "junit_family=xunit1")
            command = [sys.executable, "-m", "pytest", *settings, *reported, *part, *options, *self._options]
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
            return status, read_results(Path(report.name))

    @property
    def seconds(self) -> float:
        """Since the first one began."""
        return time.monotonic() - self._began

    def costs(self) -> str:
        """A table of what was run, in seconds: CPU, with that of ended children, and time."""
        in_all = sum(cpu_s for cpu_s, _, _ in self._costs), self.seconds, "in all"
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
        ran = dict(zip(PARTS, pool.map(runs.run, PARTS), strict=True))
    again = {
        part: runs.run(part, "--last-failed") for part, (_, results) in ran.items() if "failed" in results.values()
    }
    beside, alone = (_merged(results for _, results in runs_.values()) for runs_ in (ran, again))
    sys.stdout.write(f"{runs.costs()}\n{summary(beside, alone, runs.seconds)}\n")
    statuses = {status for status, _ in (ran | again).values()}
    return max(statuses - {NO_TESTS}, key=abs, default=NO_TESTS)


def _merged(results: Iterable[Results]) -> Results:
    return {name: result for one in results for name, result in one.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
