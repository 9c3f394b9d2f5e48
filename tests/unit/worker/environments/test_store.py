"""The environments on a worker's disk."""

import os
import time
from pathlib import Path

from edge_worker.environments.store import COMPLETE, MAX_UNUSED, EnvironmentStore


def _store(path: Path, *in_use: str, keep_s: float = 3600) -> EnvironmentStore:
    return EnvironmentStore(path / "environments", lambda: set(in_use), keep_s)


def _made(store: EnvironmentStore, key: str, *, age_s: float = 0) -> Path:
    folder = store.begin(key)
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
