"""Makes the bytecode of versions, one after the other, while their tasks run already."""

import asyncio
import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_schemas.bundles.manifest import BundleFile
from edge_worker.bundles.bytecode.compiler import Compiler, CompilerFailed, running_compiler
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.files.folders import parts_of
from edge_worker.bundles.files.tree import BYTECODE
from edge_worker.bundles.store import BundleStore
from edge_worker.log import EventLog

BATCH_BYTES = 1 << 20
"""Of sources that are read at once. Starts of jobs wait for what is done with one batch on the disk."""
MAX_NAME_BYTES = 250
"""Of a file with bytecode. File systems allow 255, also for the name under which the file is written."""

log = EventLog("edge_worker.bundles.bytecode_maker")


@dataclass
class BytecodeMaker:
    """For the versions of a store.

    Attributes:
        python: The runtime's interpreter.
        disk: All that is done with the store's files is done in order.
    """

    store: BundleStore
    disk: Disk
    python: Path
    _asked: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    _waiting: set[str] = field(default_factory=set)

    def soon(self, digest: str) -> None:
        """Make the bytecode of a version, unless the version has it or waits for it."""
        if digest in self.store.checked.uncompiled and digest not in self._waiting:
            self._waiting.add(digest)
            self._asked.put_nowait(digest)

    async def run(self) -> None:
        """Make what is asked for. Until cancelled."""
        while True:
            digest = await self._asked.get()
            try:
                await self._make(digest)
            except (CompilerFailed, OSError) as error:
                means = "tasks compile what they import"
                log.warning("bytecode_not_made", digest=digest, reason=str(error), means=means)
            finally:
                self._waiting.discard(digest)

    async def _make(self, digest: str) -> None:
        files = await self.disk.do(lambda: self.store.checked.take_uncompiled(digest))
        if not files:
            return
        count = 0
        async with running_compiler(self.python) as compiler:
            for batch in _batches(files):
                count += await self._make_some(digest, batch, compiler)
        log.info("bytecode_made", digest=digest, files=count, of=len(files))

    async def _make_some(self, digest: str, files: list[BundleFile], compiler: Compiler) -> int:
        """Returns how many of the files could be compiled."""
        made: dict[bytes, bytes] = {}
        for path, source in (await self.disk.do(lambda: self.store.checked.sources(digest, files))).items():
            if content := await compiler.compile(self.store.checked.folder_of(digest) / path, source):
                folder, _, name = path.rpartition("/")
                cached = f"{name.removesuffix('.py')}.{compiler.tag}.pyc".encode()
                if len(cached) <= MAX_NAME_BYTES:
                    made[b"/".join([*parts_of(folder), BYTECODE, cached])] = content
        await self.disk.do(lambda: self._add(digest, made))
        return len(made)

    def _add(self, digest: str, files: Mapping[bytes, bytes]) -> None:
        if self.store.free(self.store.path) < self.store.limits.reserve_bytes + sum(map(len, files.values())):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.store.checked.add_bytecode(digest, files)


def _batches(files: list[BundleFile]) -> Iterator[list[BundleFile]]:
    """By the size of the sources."""
    batch, size = list[BundleFile](), 0
    for file in files:
        batch.append(file)
        size += file.size
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
