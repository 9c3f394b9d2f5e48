"""Where the programs of the system are."""

import sys
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
"""Folder of `edge-relay`, `edge-worker` and `airflow`."""
COMPOSE = Path(__file__).parents[2]
"""A Python process with this folder in its `PYTHONPATH` can import `local`."""
