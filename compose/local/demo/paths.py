"""Folders that the commands use."""

from pathlib import Path

DAGS = Path(__file__).parent / "dags"
REPOSITORY = Path(__file__).parents[3]
RUN = REPOSITORY / ".run"
"""Each command keeps everything of a run in its own folder below this one."""
