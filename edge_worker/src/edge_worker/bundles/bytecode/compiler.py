"""The process that compiles: the runtime's interpreter with `compile_main`."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from edge_worker.bundles.bytecode.compile_main import LENGTH_BYTES

MAIN = Path(__file__).with_name("compile_main.py")
ANSWER_S = 60.0
"""The longest that the start, and each source, may take."""
_TAG = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CompilerFailed(Exception):
    """The process can't be started, has died, or takes too long."""


class Compiler:
    """A running process; use `running_compiler`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.tag = ""

    async def start(self) -> None:
        """Learn the tag that names its bytecode.

        Raises:
            CompilerFailed: See there; or it can't keep bytecode.
        """
        self.tag = (await self._answer()).decode(errors="replace")
        if _TAG.fullmatch(self.tag) is None:
            raise CompilerFailed(f"the interpreter names no tag for bytecode: {self.tag!r}")

    async def compile(self, path: Path, source: bytes) -> bytes:
        """The content of a file with bytecode; empty if the source can't be compiled.

        Raises:
            CompilerFailed: See there.
        """
        return await self._answer(str(path).encode(errors="surrogateescape"), source)

    async def _answer(self, *frames: bytes) -> bytes:
        if self._process.stdin is None or self._process.stdout is None:
            raise CompilerFailed("the process has no pipes")
        try:
            async with asyncio.timeout(ANSWER_S):
                for frame in frames:
                    self._process.stdin.write(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
                await self._process.stdin.drain()
                head = await self._process.stdout.readexactly(LENGTH_BYTES)
                return await self._process.stdout.readexactly(int.from_bytes(head, "big"))
        except TimeoutError:
            raise CompilerFailed(f"no answer within {ANSWER_S:.0f} s") from None
        except (asyncio.IncompleteReadError, OSError):
            raise CompilerFailed("the process has ended") from None


@asynccontextmanager
async def running_compiler(python: Path) -> AsyncIterator[Compiler]:
    """A process of this interpreter, killed when the context ends.

    Raises:
        CompilerFailed: It can't be started.
    """
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        # Isolated: neither variables nor packages of the runtime decide what is compiled.
        process = await asyncio.create_subprocess_exec(
            python, "-I", "-S", MAIN, stdin=pipe, stdout=pipe, stderr=null, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise CompilerFailed(f"{python} can't be started: {error.strerror}") from error
    try:
        compiler = Compiler(process)
        await compiler.start()
        yield compiler
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it and wait for its end, which is near: also if this is cancelled meanwhile."""
    with suppress(ProcessLookupError):
        process.kill()
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        await ended
        raise
