"""`edge-worker run` after a reboot of the machine: the same state folder, another boot id."""

import sys
import uuid
from unittest.mock import patch

from edge_worker import cli
from edge_worker.jobs import lease
from edge_worker.state import state
from edge_worker.task_host import job_files
from edge_worker.task_host import lease as task_lease

if __name__ == "__main__":
    boot = str(uuid.uuid4())
    for module in (job_files, task_lease, lease, state):
        patch.object(module, "boot_id", lambda: boot).start()
    sys.exit(cli.main(["run"]))
