"""`python -m edge_relay` is the same as `edge-relay`."""

import sys

from edge_relay.cli import main

if __name__ == "__main__":
    sys.exit(main())
