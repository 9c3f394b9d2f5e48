"""The environments on this machine's disk.

    <key>.<build>/           an environment; it is not moved, because its files contain its path
    <key>.<build>/complete   written last: a hash of what the environment contains
    <key>.<build>/venv       the virtual environment, read-only

Before each job an environment is compared with its inventory, which is in this agent's memory; after a start of the
agent, and after a boot, all its files are read once and compared with the hash. A changed one is not used again. A task
can change the hash, too: that is only found while this agent runs.

What has no `complete` was left by a build that was interrupted, unless this agent is just building it.
"""

import os
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from edge_worker.bundles.files.folders import remove_tree
from edge_worker.bundles.files.inventory import Inventory, inventory_of
from edge_worker.environments.contents import content_hash, seal
from edge_worker.files import write_atomically
from edge_worker.log import EventLog

COMPLETE, VENV = "complete", "venv"
JUST_USED_S = 60.0
"""How long one is kept in any case: the jobs that wait for a new one have yet to name it."""
MAX_UNUSED = 20
"""How many environments are kept that no job uses."""

log = EventLog("edge_worker.environments.store")


@dataclass
class EnvironmentStore:
    """All environments. Not for two threads: see `bundles.store`.

    Attributes:
        in_use: Returns the names of the environments that the folders of jobs name.
        keep_s: How long one is kept that no job uses.
    """

    path: Path
    in_use: Callable[[], AbstractSet[str]]
    keep_s: float
    _building: set[Path] = field(default_factory=set)
    _inventories: dict[Path, Inventory] = field(default_factory=dict)

    def find(self, key: str) -> Path | None:
        """A complete environment that nothing has changed, which counts as used now.

        Raises:
            OSError: It can't be marked as used.
        """
        for folder in sorted(self.path.glob(f"{key}.*")):
            if not (folder / COMPLETE).exists():
                continue
            if self._is_unchanged(folder):
                os.utime(folder / COMPLETE)
                return folder
            means = "a task, a person or the disk has changed its files: a new one is made"
            log.warning("environment_changed_on_disk", environment=folder.name, means=means)
            (folder / COMPLETE).unlink()
        return None

    def _is_unchanged(self, folder: Path) -> bool:
        known = self._inventories.get(folder)
        try:
            found = inventory_of(folder / VENV)
            if known is None:
                found.settle()
                if content_hash(folder / VENV) == (folder / COMPLETE).read_text() and found == inventory_of(
                    folder / VENV
                ):
                    self._inventories[folder] = known = found
        except (OSError, UnicodeDecodeError):
            return False
        return found == known

    def begin(self, key: str) -> Path:
        """A new folder for a build.

        Raises:
            OSError: It can't be made.
        """
        folder = self.path / f"{key}.{uuid4().hex[:8]}"
        folder.mkdir(mode=0o710, parents=True)
        self._building.add(folder)
        return folder

    def complete(self, folder: Path) -> None:
        """A build has succeeded: the environment is read-only from now on.

        Raises:
            OSError: This can't be done or noted.
        """
        seal(folder / VENV)
        write_atomically(folder / COMPLETE, content_hash(folder / VENV).encode(), durable=False)
        self._building.discard(folder)

    def give_up(self, folder: Path) -> None:
        """A build has not succeeded."""
        self._building.discard(folder)
        _remove(folder)

    def prune(self) -> None:
        """Remove what was left by interrupted builds, is too old or too much, and is not in use.

        Raises:
            OSError: It can't be read what is in use.
        """
        if not self.path.exists():
            return
        in_use, now, unused = self.in_use(), time.time(), list[tuple[float, Path]]()
        for folder in sorted(self.path.iterdir()):
            if folder in self._building or folder.name in in_use:
                continue
            complete = folder / COMPLETE
            unused.append((complete.stat().st_mtime if complete.exists() else 0.0, folder))
        keep_s, newest = max(self.keep_s, JUST_USED_S), sorted(unused, reverse=True)
        removed = [
            path for place, (used_at, path) in enumerate(newest) if place >= MAX_UNUSED or now - used_at >= keep_s
        ]
        for folder in removed:
            self._inventories.pop(folder, None)
            _remove(folder)
        if removed:
            log.info("environments_removed", environments=len(removed))


def _remove(folder: Path) -> None:
    try:
        (folder / COMPLETE).unlink(missing_ok=True)
        remove_tree(folder)
    except OSError as error:
        log.warning("environment_not_removed", path=str(folder), error=str(error))
