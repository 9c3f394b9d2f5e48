"""The identity of the running agent: one owner in memory, so that two changes never undo each other on disk."""

from edge_schemas.wire.workers import WorkerSettings
from edge_worker.state.state import Identity, StateDir


class KeptIdentity:
    """The identity, in memory and on disk.

    Attributes:
        current: As it is in memory.
    """

    def __init__(self, state: StateDir, identity: Identity) -> None:
        self._state = state
        self.current = identity

    def adopt(self, settings: WorkerSettings) -> None:
        """The centre has changed the settings. They count also if they can't be written.

        Raises:
            OSError: They are not on disk.
        """
        enrollment = self.current.enrollment.model_copy(update={"settings": settings})
        self.current = self.current.model_copy(update={"enrollment": enrollment})
        self._state.complete_enrollment(self.current)

    def prepare_secret(self, secret: str, rotation: int) -> None:
        """Keep the next secret next to the current one, before the relay learns its hash.

        Raises:
            OSError: It is not on disk, and must not be used.
        """
        self._write(self.current.model_copy(update={"next_secret": secret, "next_rotation": rotation}))

    def switch_secret(self) -> str:
        """The relay knows the hash of the next secret: it is the secret from now on.

        Raises:
            OSError: It is not on disk as the secret, and must not be used.
        """
        secret, rotation = self.current.next_secret, self.current.next_rotation
        if secret is None:
            msg = "there is no next secret"
            raise ValueError(msg)
        self._write(
            self.current.model_copy(
                update={"secret": secret, "rotation": rotation, "next_secret": None, "next_rotation": 0}
            )
        )
        return secret

    def _write(self, identity: Identity) -> None:
        self._state.complete_enrollment(identity)
        self.current = identity
