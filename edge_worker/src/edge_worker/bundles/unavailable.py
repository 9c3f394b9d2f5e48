"""Why a job can't have its code on this machine."""

from edge_worker.host_client.client import LaunchError


class CodeUnavailable(LaunchError):
    """The code of a job is not on this machine, and does not get there.

    Attributes:
        pauses: The next job would fail for the same reason: the worker accepts none for a while.
    """

    def __init__(self, reason: str, *, releases: bool = False, pauses: bool = False) -> None:
        super().__init__(reason, releases=releases)
        self.pauses = pauses


def cannot_be_kept(error: OSError) -> CodeUnavailable:
    """The disk has no room, or can't be written: another worker may run the job."""
    return CodeUnavailable(f"it cannot be stored: {error.strerror or error}", releases=True, pauses=True)


class Damaged(Exception):
    """An answer of the relay does not hold what was asked for: it was damaged or altered on its way."""
