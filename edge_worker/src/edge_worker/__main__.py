"""`python -m edge_worker` is the same as `edge-worker`."""

import sys

from edge_worker.cli import main

if __name__ == "__main__":
    sys.exit(main())
