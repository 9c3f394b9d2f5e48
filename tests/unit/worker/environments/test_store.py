"""The environments on a worker's disk."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_worker.environments.store import COMPLETE, MAX_UNUSED, VENV, EnvironmentStore


def _store(path: Path, *in_use: str, keep_s: float = 3600) -> EnvironmentStore:
    return EnvironmentStore(path / "environments", lambda: set(in_use), keep_s)


def _made(store: EnvironmentStore, key: str, *, age_s: float = 0) -> Path:
    folder = store.begin(key)
    (folder / VENV / "lib").mkdir(parents=True)
    (folder / VENV / "lib" / "one.py").write_bytes(b"ONE = 1\n")
    (folder / VENV / "python").symlink_to("/usr/bin/python3")
    store.complete(folder)
    then = time.time() - age_s
    os.utime(folder / COMPLETE, (then, then))
    return folder


def test_only_a_complete_one_is_found(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.begin("a")
    assert store.find("a") is None
    made = _made(store, "a")
    assert store.find("a") == made


def _rewritten(path: Path) -> None:
    """Other bytes, with the size and the times of before."""
    found = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"TWO = 2\n")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    path.chmod(0o444)


def _linked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("restarts", [False, True], ids=["same-agent", "next-agent"])
@pytest.mark.parametrize(
    "change",
    [
        lambda venv: _rewritten(venv / "lib/one.py"),
        lambda venv: _linked(venv / "python", "/tmp/python3"),
        lambda venv: (venv / "lib/sitecustomize.py").write_bytes(b""),
        lambda venv: (venv / "lib/more.pth").write_bytes(b""),
        lambda venv: (venv / "lib/__pycache__").mkdir(),
        lambda venv: (venv / "lib/one.py").unlink(),
        lambda venv: venv.rename(venv.with_name("moved")),
    ],
    ids=["content", "link", "module", "pth", "folder", "removed", "moved"],
)
def test_changed_one_is_not_found_again(tmp_path: Path, change: Callable[[Path], object], *, restarts: bool) -> None:
    """Whatever a task has left behind, the next job gets a new environment."""
    store = _store(tmp_path)
    made = _made(store, "a")
    assert store.find("a") == made
    folders = [made / VENV, made / VENV / "lib"]
    for folder in folders:
        folder.chmod(0o755)
    change(made / VENV)
    for folder in filter(Path.exists, folders):
        folder.chmod(0o555)
    store = _store(tmp_path) if restarts else store
    assert store.find("a") is None
    assert store.find("a") is None, "and never again"


def test_what_was_read_once_is_only_compared(tmp_path: Path) -> None:
    """An agent that knows an environment believes what it has seen, and nothing that stands on the disk."""
    store = _store(tmp_path)
    made = _made(store, "a")
    assert store.find("a") == made
    (made / COMPLETE).write_bytes(b"another hash")
    assert store.find("a") == made
    assert _store(tmp_path).find("a") is None


def test_complete_one_is_read_only(tmp_path: Path) -> None:
    made = _made(_store(tmp_path), "a")
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o222 for path in (made / VENV, made / VENV / "lib/one.py")}
    assert modes == {0}


def test_what_an_interrupted_build_has_left_is_removed_and_a_running_one_stays(tmp_path: Path) -> None:
    left, store = _store(tmp_path).begin("a"), _store(tmp_path)
    running = store.begin("a")
    store.prune()
    assert not left.exists()
    assert running.exists()
    store.give_up(running)
    assert not running.exists()


def test_old_ones_and_too_many_are_removed_unless_a_job_names_them(tmp_path: Path) -> None:
    _store(tmp_path).prune()
    old, used = _made(_store(tmp_path), "old", age_s=7200), _made(_store(tmp_path), "used", age_s=7200)
    many = [_made(_store(tmp_path), f"k{number}", age_s=number) for number in range(MAX_UNUSED + 2)]
    _store(tmp_path, used.name).prune()
    assert not old.exists()
    assert used.exists()
    assert [path.exists() for path in many] == [True] * MAX_UNUSED + [False] * 2


def test_one_that_was_just_made_stays_where_none_is_kept(tmp_path: Path) -> None:
    store = _store(tmp_path, keep_s=0)
    made, old = _made(store, "a"), _made(store, "b", age_s=120)
    store.prune()
    assert made.exists()
    assert not old.exists()


def test_what_is_found_counts_as_used(tmp_path: Path) -> None:
    store = _store(tmp_path)
    made = _made(store, "a", age_s=7200)
    store.find("a")
    store.prune()
    assert made.exists()
