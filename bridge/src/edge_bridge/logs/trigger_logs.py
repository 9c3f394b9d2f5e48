"""Logs of triggers: the triggerer writes them in the centre, next to where a local task's log would be."""

import glob
from collections.abc import Generator
from pathlib import Path

from edge_bridge.logs.delegate import Streams


def trigger_logs(relative_path: str) -> Streams:
    """The logs of a try's triggers in this machine's log folder, where Airflow looks for them too.

    Args:
        relative_path: Of the try's own log, below `[logging] base_log_folder`.
    """
    from airflow.configuration import conf

    folder = Path(conf.get_mandatory_value("logging", "base_log_folder")).resolve()
    path = folder / relative_path
    files = sorted(path.parent.glob(glob.escape(path.name) + ".trigger.*.log"))
    # As Airflow: a link must not lead out of the folder.
    inside = [file for file in files if file.resolve().is_relative_to(folder)]
    return [str(file) for file in inside], [_lines(file) for file in inside]


def _lines(file: Path) -> Generator[str, None, None]:
    try:
        with file.open(encoding="utf-8", errors="replace") as text:
            for line in text:
                yield line.rstrip("\n")
    except OSError as error:
        yield f"Edge Relay: the log of a trigger can't be read: {error}"
