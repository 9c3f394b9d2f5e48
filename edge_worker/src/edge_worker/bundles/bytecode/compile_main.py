"""Compiles sources from standard input; run by the runtime's interpreter as a program given by its path.

Neither a source nor a package of the runtime is imported. Each frame is a length of four bytes, and so many bytes. The
first answer is the tag that names bytecode of this interpreter; then for each path and source comes the content of a
file with bytecode, empty if the source can't be compiled.
"""

import importlib.util
import marshal
import os
import resource
import sys
import warnings

LENGTH_BYTES = 4
MAX_MEMORY_BYTES = 1 << 30
_CHECKED_HASH = (0b11).to_bytes(4, "little")
"""Python compares the hash of the source at each import, so bytecode never stands for another source."""


def main() -> None:
    """Answers until standard input ends."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    warnings.simplefilter("ignore")
    _write((sys.implementation.cache_tag or "").encode())
    while (path := _read()) is not None and (source := _read()) is not None:
        _write(bytecode_of(os.fsdecode(path), source))


def bytecode_of(path: str, source: bytes) -> bytes:
    """The content of a file with bytecode; empty if the source can't be compiled."""
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except Exception:  # noqa: BLE001 - whatever is wrong with the source: the task that imports it sees the reason
        return b""
    return importlib.util.MAGIC_NUMBER + _CHECKED_HASH + importlib.util.source_hash(source) + marshal.dumps(code)


def _read() -> bytes | None:
    head = sys.stdin.buffer.read(LENGTH_BYTES)
    return sys.stdin.buffer.read(int.from_bytes(head, "big")) if head else None


def _write(frame: bytes) -> None:
    sys.stdout.buffer.write(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
