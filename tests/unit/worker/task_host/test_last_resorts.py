"""User code that holds the interpreter beyond its time limit."""

import subprocess
import sys

PROGRAM = """
import itertools, os, time
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout
from edge_worker.task_host.user_code import last_resorts

last_resorts.GRACE_S = 1.0
last_resorts.install()
"""
WAITS = """
try:
    with timeout(0.2):
        time.sleep(60)
except AirflowTaskTimeout:
    time.sleep(2)  # its own cleaning up may take longer than the grace
    print("timed out")
"""
ENDS = """
with timeout(0.2):
    pass
time.sleep(2)
print("done")
"""
HOLDS = """
with timeout(0.2):
    sum(itertools.repeat(1))
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + code], check=False, capture_output=True, text=True, timeout=55
    )


def test_code_within_its_limit_is_left_alone_and_python_code_gets_the_exception_and_its_time() -> None:
    """In one process: the import of Airflow takes most of the time."""
    printed = _run(ENDS + WAITS).stdout
    assert printed.startswith("done\n")
    assert printed.endswith("timed out\n")


def test_a_call_into_c_that_does_not_return_is_ended_and_named() -> None:
    ended = _run(HOLDS)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert 'File "<string>"' in ended.stderr
