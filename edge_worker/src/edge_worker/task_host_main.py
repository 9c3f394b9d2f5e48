"""Starts the task host in the runtime's interpreter, as a program given by its path.

That interpreter has Airflow, but perhaps neither this distribution nor what the agent needs. Therefore a bare package
`edge_worker` is registered with its folder, and only `edge_worker.task_host` is loaded from there.
"""

import os
import sys

if __name__ == "__main__":
    # Descriptors of the agent are not for tasks.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    # Python puts a program's folder first on the path, where it would hide modules of the user's DAGs.
    folder = __file__.rpartition("/")[0]
    if sys.path[0] == folder:
        del sys.path[0]

    import types

    worker = types.ModuleType("edge_worker")
    worker.__path__ = [folder]
    sys.modules["edge_worker"] = worker

    from edge_worker.task_host.host import main

    sys.exit(main())
