"""Starts the supervisor of one command, as `python -m edge_worker.command_host`; see `supervisor`."""

import sys

from edge_worker.command_host.supervisor import main

if __name__ == "__main__":
    sys.exit(main())
