"""The supervisor of one job of `FakeRuntime`, run as a program, which ends once the job has been launched.

Takes the job's lock, runs the snippet in a child whose output becomes the task's log, and writes the result file.
"""

import os
import subprocess
import sys
from pathlib import Path

from edge_worker.task_host import job_files

_PRELUDE = """
import http.client, json, os, socket, sys, time
class _Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["GATEWAY"])
def call(method, path, body=None, request_id="call-0001"):
    connection = _Unix("gateway")
    headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
    content = None if body is None else json.dumps(body)
    connection.request(method, "/jobs/" + os.environ["JOB"] + "/execution/" + path, content, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()
def succeed():
    return call("PATCH", "task-instances/" + os.environ["TI"] + "/state", {"state": "success"}, "final-0001")[0]
"""


def _supervise(job_id: str, job_dir: Path, socket: str, ti_id: str, script: str, *, ready: int) -> int:
    lock = job_files.hold_lock(job_dir)
    if lock is None or not job_files.claim(job_dir, job_files.this_process(job_id)):
        return 1
    job_files.reserve_result(job_dir)
    environment = {**os.environ, "GATEWAY": socket, "JOB": job_id, "TI": ti_id, "PYTHONUNBUFFERED": "1"}
    with (job_dir / job_files.TASK_LOG).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", _PRELUDE + script], env=environment, stdout=log, stderr=log, pass_fds=[lock]
        )
    os.write(ready, b"ready")
    os.close(ready)
    code = child.wait()
    job_files.write_result(job_dir, job_files.Result(exit_code=code, final_state=None, error=None))
    return 0


def _launch(job_id: str, job_dir: str, socket: str, ti_id: str, script: str) -> int:
    """Leaves the supervisor to itself, as the task host does."""
    answer, ready = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(answer)
        os._exit(_supervise(job_id, Path(job_dir), socket, ti_id, script, ready=ready))
    os.close(ready)
    return 0 if os.read(answer, 5) == b"ready" else 1


if __name__ == "__main__":
    sys.exit(_launch(*sys.argv[1:]))
