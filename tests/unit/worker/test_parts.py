"""Small parts: the learned hold, the job table, the state folder, the runtime folder, the log."""

import io
import json
import logging
from pathlib import Path

import pytest

from edge_schemas.wire.worker_report import JobPhase
from edge_worker.agent.poll_timeout import PollTimeoutTuner
from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.jobs.events import FinalWriteBegun, FinalWriteEnded, ProcessGone, StopWanted, StopWish, TaskExited
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog, JsonFormatter, TerminalFormatter, bound
from edge_worker.logs.spool import Spool
from edge_worker.settings import SettingsError
from edge_worker.state.job_dir import JobDir
from edge_worker.state.runtime_dir import prepare_runtime_dir
from edge_worker.state.state import PendingEnrollment, StateDir
from support.relay.jobs import make_job
from support.worker.local_jobs import RUNNING, local_job


class TestPollTimeoutTuner:
    """How long a poll may be held."""

    def test_two_cuts_at_the_same_age_halve_it(self) -> None:
        tuner = PollTimeoutTuner(50)
        assert [tuner.cut(30), tuner.cut(31), tuner.current_s] == [False, True, 25]

    def test_cuts_at_different_ages_are_accidents(self) -> None:
        tuner = PollTimeoutTuner(50)
        assert [tuner.cut(30), tuner.cut(12), tuner.cut(45), tuner.current_s] == [False, False, False, 50]

    def test_a_young_connection_was_not_cut_for_being_idle(self) -> None:
        tuner = PollTimeoutTuner(50)
        assert [tuner.cut(0.1), tuner.cut(0.1), tuner.current_s] == [False, False, 50]

    def test_a_poll_of_full_length_clears_the_suspicion(self) -> None:
        tuner = PollTimeoutTuner(50)
        tuner.cut(30)
        tuner.answered(49)
        assert not tuner.cut(30)

    def test_it_never_falls_below_five_seconds(self) -> None:
        tuner = PollTimeoutTuner(8)
        for _ in range(6):
            tuner.cut(6)
        assert tuner.current_s == 5


class TestJobTable:
    """Jobs and slots."""

    def test_a_finishing_job_holds_no_slot_but_is_reported(self, tmp_path: Path) -> None:
        table = JobRegistry(1)
        held = local_job(make_job(), JobDir(tmp_path), RUNNING)
        table.add(held)
        assert (table.free, table.refusal()) == (0, "all slots are taken")
        held.post(ProcessGone())
        assert (table.free, [report.phase for report in table.reports()]) == (1, [JobPhase.FINISHING])

    def test_a_task_that_is_over_holds_no_slot_although_its_supervisor_waits(self, tmp_path: Path) -> None:
        table = JobRegistry(1)
        held = local_job(make_job(), JobDir(tmp_path), RUNNING)
        table.add(held)
        held.post(TaskExited())
        assert (table.free, [report.phase for report in table.reports()]) == (1, [JobPhase.RUNNING])

    def test_draining_and_closed_tables_take_nothing(self) -> None:
        table = JobRegistry(2)
        table.close_intake("runtime", "no runtime")
        assert (table.free, table.refusal()) == (0, "no runtime")
        table.open_intake("runtime")
        assert table.free == 2
        table.drain()
        assert (table.free, table.refusal()) == (0, "the worker is draining")

    def test_a_job_is_not_stopping_while_or_after_its_final_state_is_written(self, tmp_path: Path) -> None:
        held = local_job(make_job(), JobDir(tmp_path), RUNNING)
        held.post(StopWanted(StopWish("first")))
        seen = []
        for accepted in (None, "success"):
            held.post(FinalWriteBegun())
            seen.append(held.now.is_stopping)
            held.post(FinalWriteEnded(accepted))
            seen.append(held.now.is_stopping)
        assert seen == [False, True, False, False]

    def test_the_first_reason_stands_and_a_later_drop_is_added(self, tmp_path: Path) -> None:
        held = local_job(make_job(), JobDir(tmp_path))
        for wish in (StopWish("first"), StopWish("second", drop=True), StopWish("third")):
            held.post(StopWanted(wish))
        assert held.now.stop == StopWish("first", drop=True)


class TestStateDir:
    """What is on disk."""

    @pytest.fixture
    def state(self, tmp_path: Path) -> StateDir:
        state = StateDir(tmp_path / "state")
        state.prepare()
        return state

    def test_the_incarnation_rises_with_every_start(self, state: StateDir) -> None:
        first, second, third = (state.next_incarnation() for _ in range(3))
        assert first < second < third

    def test_the_incarnation_does_not_fall_when_the_clock_does(self, state: StateDir) -> None:
        (state.path / "incarnation").write_text(str(2**40))
        assert state.next_incarnation() == 2**40 + 1

    @pytest.mark.parametrize("content", [b"", b"3"])
    def test_a_damaged_or_restored_incarnation_is_not_used_again(self, state: StateDir, content: bytes) -> None:
        """Of a backup: the numbers since then were used by agents that may live."""
        (state.path / "incarnation").write_bytes(content)
        assert state.next_incarnation() >= 1_700_000_000

    def test_a_copy_of_the_folder_has_another_instance(self, state: StateDir, tmp_path: Path) -> None:
        copy = StateDir(tmp_path / "copy")
        copy.prepare()
        assert len(state.instance()) in range(1, 65)
        assert state.instance() == StateDir(state.path).instance() != copy.instance()

    def test_two_agents_cannot_share_it(self, state: StateDir) -> None:
        with state.locked(), pytest.raises(SettingsError, match="another edge-worker"), state.locked():
            pass

    def test_a_damaged_identity_is_said_without_its_content(self, state: StateDir) -> None:
        (state.path / "worker.json").write_text('{"secret": "erw_hidden"')
        with pytest.raises(SettingsError, match="damaged") as error:
            state.identity()
        assert "erw_hidden" not in str(error.value)

    def test_a_begun_enrolment_is_found_again(self, state: StateDir) -> None:
        pending = PendingEnrollment(relay_url="https://r", secret="erw_x")
        state.begin_enrollment(pending)
        assert StateDir(state.path).pending_enrollment() == pending

    def test_ended_jobs_are_kept_for_a_while(self, state: StateDir) -> None:
        job = make_job()
        job_dir = state.job_dir(job.id)
        job_dir.create(job, "receipt")
        assert job_dir.job() == job
        state.archive(job_dir)
        kept = state.path / "ended" / job.id
        now = kept.stat().st_mtime
        state.clean_up(keep_days=1, now=now + 86_000)
        assert kept.exists()
        state.clean_up(keep_days=1, now=now + 86_400)
        assert not kept.exists()

    def test_an_ended_job_is_put_next_to_one_that_cannot_be_removed(
        self, state: StateDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge_worker.state.state.rmtree", lambda *_, **__: None)
        job = make_job()
        for receipt in ("first", "second"):
            state.job_dir(job.id).create(job, receipt)
            state.archive(state.job_dir(job.id))
        kept = (state.path / "ended").iterdir()
        assert sorted((path / "receipt").read_text() for path in kept) == ["first", "second"]
        assert state.job_dirs() == []


class TestRuntimeDir:
    """Where the socket is."""

    def test_a_path_too_long_for_a_socket_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="too long"):
            prepare_runtime_dir(tmp_path / ("x" * 100))

    def test_a_folder_open_to_others_is_refused(self, tmp_path: Path) -> None:
        folder = Path(tmp_path.anchor) / "tmp" / f"ew-open-{tmp_path.name[-20:]}"
        folder.mkdir()
        folder.chmod(0o755)
        try:
            with pytest.raises(SettingsError, match="0700"):
                prepare_runtime_dir(folder)
        finally:
            folder.rmdir()


def test_a_spool_moves_only_when_it_is_told_to(tmp_path: Path) -> None:
    job_dir = JobDir(tmp_path)
    spool = Spool(job_dir)
    assert (spool.backlog(), spool.next_chunk()) == (0, b"")
    job_dir.log.write_bytes(b"abcdef")
    assert [spool.next_chunk(), spool.next_chunk()] == [b"abcdef", b"abcdef"]
    spool.adopt(4)
    assert (spool.next_chunk(), Spool(job_dir).offset) == (b"ef", 4)
    spool.adopt(9)
    assert (spool.backlog(), spool.next_chunk()) == (0, b"")


async def test_the_ladder_only_goes_down() -> None:
    shutdown = Shutdown()
    shutdown.reach(ShutdownStage.STOP, "test")
    shutdown.reach(ShutdownStage.DRAIN, "test")
    assert shutdown.stage is ShutdownStage.STOP
    await shutdown.at(ShutdownStage.DRAIN)


def _lines(formatter: logging.Formatter) -> tuple[logging.Handler, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    return handler, stream


def test_events_are_json_with_bound_fields_and_those_of_others() -> None:
    handler, stream = _lines(JsonFormatter())
    logger = logging.getLogger("edge_worker.test_json")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with bound(job="j"):
        EventLog(logger.name).info("job_granted", queue="q", name="taken by logging itself")
    logger.info("task_host_ready", extra={"airflow": "3.3.2"})
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["job"], first["queue"]) == ("job_granted", "j", "q")
    assert first["name"] == "taken by logging itself"
    assert (second["event"], second["airflow"]) == ("task_host_ready", "3.3.2")


def test_control_characters_do_not_reach_a_terminal() -> None:
    handler, stream = _lines(TerminalFormatter())
    logger = logging.getLogger("edge_worker.test_terminal")
    logger.addHandler(handler)
    EventLog(logger.name).warning("relay_unreachable", reason="\x1b[31mred\nsecond line")
    assert "\x1b" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1
