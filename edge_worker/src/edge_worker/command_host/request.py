"""What the agent asks the supervisor of a command to run."""

from dataclasses import dataclass

from edge_worker.task_host.protocol import Offline

ALIVE = 3
"""The descriptor of a supervisor that is closed when it ends."""
RESULT_FILE = "result"
"""In the job's folder: what the command wants to answer to its producer."""
RESULT_VARIABLE = "EDGE_RELAY_RESULT"
WORK_FOLDER = "work"
"""In the job's folder: where a command runs that names no folder."""


@dataclass(frozen=True)
class CommandRequest:
    """One command; its fields are passed on as JSON.

    Attributes:
        dir: The job's folder.
        program: What is executed: the path to which `argv[0]` led.
        env: The complete environment.
        cwd: None for a folder of its own.
        gateway_socket: Of the agent: whether it answers decides who keeps the fence.
    """

    job: str
    dir: str
    program: str
    argv: list[str]
    env: dict[str, str]
    cwd: str | None
    timeout_s: float | None
    offline: Offline
    gateway_socket: str
    log_max_bytes: int
