"""Two agents with one worker's identity, because its state folder was copied."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState
from edge_worker.agent import refusals
from edge_worker.settings import Settings
from support.relay.fake_relay import FakeRelay
from support.worker.agent import NAME, running_agent
from support.worker.fake_runtime import script_job


@pytest.fixture
def copy(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings of an agent elsewhere; its state folder is yet to be copied."""
    runtime_dir = Path(tempfile.mkdtemp(prefix="ew-"))
    yield settings.model_copy(update={"state_dir": tmp_path / "copy", "runtime_dir": runtime_dir})
    shutil.rmtree(runtime_dir)


async def test_a_copied_worker_is_found_and_takes_nothing_until_that_is_resolved(
    relay: FakeRelay, settings: Settings, copy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's running job does not notice."""
    monkeypatch.setattr(refusals, "SUPERSEDED_FIRST_S", 0.1)
    go = tmp_path / "go"
    job = script_job(f"print('up')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nsys.exit(9)")
    other = script_job("sys.exit(2)")
    async with running_agent(relay, settings) as first:
        await relay.publish(job)
        await first.until_log(job.id, b"up")
        shutil.copytree(settings.state_dir, copy.state_dir, ignore=shutil.ignore_patterns("jobs", "lock"))
        async with running_agent(relay, copy) as second:
            await relay.until(lambda: relay.entries[NAME].conflict is not None)
            conflict = relay.entries[NAME].conflict
            assert conflict is not None
            assert conflict.older.instance == first.state.instance() != conflict.newer.instance
            await relay.until(lambda: any(poll.in_conflict and poll.free == 0 for poll in relay.polls))
            await relay.publish(other)
            go.touch()
            await relay.until(lambda: all(relay.state(each.id) is JobState.ENDED for each in (job, other)))
            assert (first.runtime.launched, second.runtime.launched) == ([job.id, other.id], [])
            assert [relay.finishes[each.id][0].exit_code for each in (job, other)] == [9, 2]
            first.drain()
            await first.until_ended()
            await relay.resolve(NAME, keep_newer=True)
            await relay.until(lambda: not relay.polls[-1].in_conflict and relay.polls[-1].free == 2)
