"""Which Airflow runtime may run the tasks of which centre: the one rule, for relay, worker and doctors."""

import re

RUNTIME_NOT_READY = "the worker's Airflow runtime is not ready ('edge-worker doctor' finds the cause)"
"""What a worker reports as the reason why it accepts no jobs while its task host does not answer."""
_MINOR = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})(?![0-9])")


def runtime_mismatch(runtime: str | None, centre: str | None) -> str | None:
    """Why a runtime can't run the centre's tasks; None if it can, or if the versions are not known.

    The Task SDK names the newest version of the Execution API that it knows, and an Airflow serves its own and older
    ones. So the runtime's minor version must not be above the centre's.

    Args:
        runtime: Airflow's version in the worker's runtime. A missing or unparsable version is accepted.
        centre: Airflow's version at the centre.
    """
    if runtime is None or centre is None:
        return None
    ours, theirs = _MINOR.match(runtime), _MINOR.match(centre)
    if ours is None or theirs is None or _number(ours) <= _number(theirs):
        return None
    return (
        f"the worker's runtime has Airflow {runtime}, newer than the centre's {centre}: it must have "
        f"{theirs[1]}.{theirs[2]} or older. Run 'edge-worker runtime install', or upgrade the centre first"
    )


def _number(version: re.Match[str]) -> tuple[int, int]:
    return int(version[1]), int(version[2])
