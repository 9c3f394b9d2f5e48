"""The bytecode of versions: made by a real interpreter, used by it, and never what a task has left behind."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_worker.bundles.bytecode import compiler
from edge_worker.bundles.bytecode.compiler import running_compiler
from edge_worker.bundles.bytecode_maker import BytecodeMaker
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.pruning import BundleLimits
from edge_worker.bundles.store import BundleStore
from support.relay.bundles import MadeBundle, make_bundle
from support.worker.agent import eventually

TAG = sys.implementation.cache_tag
_LIMITS = BundleLimits(version_max_bytes=1 << 30, cache_max_bytes=1 << 30, keep_s=3600, reserve_bytes=0)


def _built(store: BundleStore, files: Mapping[str, bytes]) -> tuple[MadeBundle, Path]:
    bundle = make_bundle(files)
    partial = store.partial(bundle.digest)
    partial.keep_manifest(bundle.frame, bundle.digest)
    for piece, frame in bundle.frames.items():
        (partial.path / "pieces" / piece).write_bytes(frame)
    return bundle, store.build(partial, bundle.manifest, {}, "dags")


@asynccontextmanager
async def _maker(folder: Path, python: Path = Path(sys.executable)) -> AsyncIterator[BytecodeMaker]:
    store, disk = BundleStore(folder, _LIMITS, set), Disk()
    store.prepare()
    maker = BytecodeMaker(store, disk, python)
    task = asyncio.create_task(maker.run())
    yield maker
    task.cancel()
    await asyncio.wait([task])
    disk.close()


def _bytecode(tree: Path) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.rglob("*.pyc")}


def _imported(tree: Path, module: str) -> subprocess.CompletedProcess[str]:
    """What an import prints, and Python's words on where the code came from."""
    script = f"import sys; sys.path.insert(0, {str(tree)!r}); import {module}"
    return subprocess.run([sys.executable, "-v", "-c", script], capture_output=True, text=True, check=True, timeout=60)


async def test_what_compiles_gets_bytecode_that_python_uses_and_does_not_replace(tmp_path: Path) -> None:
    """As root, Python would write a file in place of one that it does not accept."""
    async with _maker(tmp_path) as maker:
        bundle, tree = await maker.disk.do(
            lambda: _built(
                maker.store,
                {
                    "lib/__init__.py": b"",
                    "lib/names.py": "# coding: latin-1\nprint('gr\u00fc\u00dfe')\n".encode("latin-1"),
                    "broken.py": b"def broken(:\n",
                    "null.py": b"a = 1\0\n",
                    "deep.py": b"(" * 5000 + b")" * 5000,
                    "data.py": b"DATA = 1\n" + b"#" * (1 << 20),
                    "own/__pycache__/m.cpython-311.pyc": b"brought along",
                    "own/m.py": b"",
                    f"{'long' * 60}.py": b"",
                },
            )
        )
        maker.soon(bundle.digest)
        cached = tree / f"lib/__pycache__/names.{TAG}.pyc"
        await eventually(cached.exists)
        assert _bytecode(tree) == {
            f"lib/__pycache__/__init__.{TAG}.pyc",
            f"lib/__pycache__/names.{TAG}.pyc",
            "own/__pycache__/m.cpython-311.pyc",
        }
        before = cached.stat()
        result = _imported(tree, "lib.names")
        assert result.stdout == "gr\u00fc\u00dfe\n"
        assert f"code object from '{cached}'" in result.stderr, result.stderr
        assert await maker.disk.do(lambda: maker.store.tree(bundle.digest)) == tree
        assert cached.stat() == before
        assert maker.store.checked.uncompiled == set(), "nothing was removed"


async def test_bytecode_never_stands_for_another_source(tmp_path: Path) -> None:
    """A person who edits a file on the worker sees the change in the next import; the next job undoes it."""
    async with _maker(tmp_path) as maker:
        bundle, tree = await maker.disk.do(lambda: _built(maker.store, {"m.py": b"print('one')\n"}))
        maker.soon(bundle.digest)
        await eventually(lambda: bool(_bytecode(tree)))
        file = tree / "m.py"
        file.chmod(0o644)
        file.write_bytes(b"print('two')\n")
        assert _imported(tree, "m").stdout == "two\n"


@pytest.mark.parametrize("script", ["exit 1", "printf '\\0\\0\\0\\1!'; exec sleep 100", "exec sleep 100"])
async def test_interpreter_that_does_not_compile_harms_no_job(
    tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends, answers something else, or does not answer: tasks compile what they import."""
    monkeypatch.setattr(compiler, "ANSWER_S", 0.3)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    async with _maker(tmp_path / "state", python) as maker:
        first, its_tree = await maker.disk.do(lambda: _built(maker.store, {"a.py": b""}))
        maker.soon(first.digest)
        await eventually(lambda: "bytecode_not_made" in caplog.text)
        assert await maker.disk.do(lambda: maker.store.tree(first.digest)) == its_tree
        maker.python = Path(sys.executable)
        monkeypatch.undo()
        second, tree = await maker.disk.do(lambda: _built(maker.store, {"b.py": b""}))
        maker.soon(second.digest)
        await eventually(lambda: bool(_bytecode(tree)))
    assert not _bytecode(its_tree)
    assert caplog.text.count("bytecode_not_made") == 1


async def test_disk_without_room_gets_no_bytecode(tmp_path: Path) -> None:
    async with _maker(tmp_path) as maker:
        maker.store.free = lambda _: 10
        bundle, tree = await maker.disk.do(lambda: _built(maker.store, {"a.py": b""}))
        maker.soon(bundle.digest)
        await eventually(lambda: bundle.digest not in maker.store.checked.uncompiled)
        await maker.disk.do(lambda: None)
    assert not _bytecode(tree)


async def test_a_compiler_is_gone_although_its_end_is_cancelled_again() -> None:
    """An agent that stops may cancel twice; a process that nobody waits for stays in the process table."""
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def use() -> None:
        async with running_compiler(Path(sys.executable)) as compiler:
            started.set_result(compiler._process.pid)
            await asyncio.Event().wait()

    using = asyncio.create_task(use())
    pid = await started
    using.cancel()
    await asyncio.sleep(0)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
