"""A worker that knows the centre's keys runs what the executor has signed, and nothing else of Airflow's."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_schemas.gate.centre import CentreFacts
from edge_schemas.life.model import JobState, new_record
from edge_schemas.signing.key_sets import fingerprint, key_id
from edge_schemas.signing.payload import restored
from edge_schemas.wire.jobs import AuxiliaryKind, Job
from edge_worker.agent.enroll import enroll
from edge_worker.settings import Settings, SettingsError
from edge_worker.signing.pinned_keys import FILE, PinnedKeys
from edge_worker.state.state import StateDir
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay
from support.relay.jobs import make_auxiliary_job
from support.signing.keys import SigningCentre, signing_centre
from support.worker.agent import Agent, eventually, running_agent
from support.worker.fake_runtime import script_job


@pytest.fixture
def centre(tmp_path: Path) -> SigningCentre:
    return signing_centre(tmp_path / "centre")


@pytest.fixture
def pinned(settings: Settings, centre: SigningCentre) -> Settings:
    """The settings of an owner who has copied the public keys."""
    return settings.model_copy(update={"signing_keys": centre.public_file})


def announce(relay: FakeRelay, centre: SigningCentre) -> None:
    relay.centre = CentreFacts(airflow_version="3.3.2", python_version="3.12.1", signing_keys=centre.sets)


def new_job(script: str = "print('ran')", **changes: object) -> Job:
    return script_job(script).model_copy(update={"published_at": datetime.now(UTC), **changes})


async def ran(relay: FakeRelay, job: Job) -> None:
    await relay.publish(job)
    await relay.until(lambda: relay.state(job.id) is JobState.ENDED)


async def refusal(relay: FakeRelay, agent: Agent, job: Job) -> str:
    """Why the worker releases the job, which it must not have started."""
    before, launched = len(relay.released), list(agent.runtime.launched)
    await relay.publish(job)
    await relay.until(lambda: len(relay.released) > before)
    assert (agent.runtime.launched, relay.requests[f"/v1/jobs/{job.id}/start"]) == (launched, 0)
    release = relay.released[before]
    assert release.counted, "so that it is parked, and its reason reaches operators and Airflow"
    return release.reason


async def test_signed_jobs_run_whatever_is_written_outside_of_what_was_signed(
    relay: FakeRelay, pinned: Settings, centre: SigningCentre
) -> None:
    """A relay of another version, or one that was taken over, may have written the rest anew."""
    async with running_agent(relay, pinned) as agent:
        stored = centre.sign(new_job("print('as signed')"))
        await ran(relay, stored)
        other = restored(centre.sign(new_job("print('as signed')")))
        work = other.work.model_copy(update={"workload": {"script": "print('as altered')"}})
        await ran(relay, other.model_copy(update={"work": work}))
        assert agent.runtime.launched == [stored.id, other.id]
        for job in (stored, other):
            assert b"as signed" in relay.logs[job.id]
            assert b"as altered" not in relay.logs[job.id]


def _other_script(job: Job) -> Job:
    assert job.signed is not None
    payload = job.signed.payload.replace("print", "PRINT")
    return job.model_copy(update={"signed": job.signed.model_copy(update={"payload": payload})})


def _other_task(job: Job) -> Job:
    assert job.signed is not None
    assert job.task is not None
    payload = job.signed.payload.replace(job.task.ti_id, make_auxiliary_job().id)
    return job.model_copy(update={"signed": job.signed.model_copy(update={"payload": payload})})


def _of_another_job(job: Job) -> Job:
    return job.model_copy(update={"id": make_auxiliary_job().id})


REFUSED: list[tuple[Callable[[Job], Job], str]] = [
    (lambda job: job.model_copy(update={"signed": None}), "the executor has not signed it"),
    (_other_script, "altered after it was signed"),
    (_other_task, "altered after it was signed"),
    (_of_another_job, "another job was signed"),
]


async def test_what_was_altered_or_not_signed_is_refused(
    relay: FakeRelay, pinned: Settings, centre: SigningCentre, caplog: pytest.LogCaptureFixture
) -> None:
    announce(relay, centre)
    async with running_agent(relay, pinned) as agent:
        await eventually(lambda: relay.requests["/v1/worker/signing-keys"] > 0)
        for alter, why in REFUSED:
            reason = await refusal(relay, agent, alter(centre.sign(new_job())))
            assert reason.startswith("job_not_signed: ")
            assert why in reason
    assert any(record.message == "job_not_signed" for record in caplog.records)


async def test_queue_team_and_age_are_part_of_what_was_signed(
    relay: FakeRelay, pinned: Settings, centre: SigningCentre
) -> None:
    old = datetime.now(UTC) - timedelta(days=15)
    async with running_agent(relay, pinned) as agent:
        for job, why in (
            (new_job(queue="another"), "queue 'another'"),
            (new_job(team="another"), "does not serve"),
            (new_job(published_at=old), "EDGE_WORKER_SIGNED_MAX_AGE_S"),
        ):
            assert why in await refusal(relay, agent, centre.sign(job))


RUN = "call('PATCH', 'task-instances/' + os.environ['TI'] + '/run', {'state': 'running'})"


def forget(relay: FakeRelay, job: Job) -> None:
    """As a relay that was taken over does: the job waits as on the first day."""
    relay.records[job.id] = new_record(job)
    relay.granted.pop(job.id, None)
    relay.requests.clear()


@pytest.mark.parametrize("auxiliary", [False, True], ids=["task", "callback"])
async def test_a_job_that_has_run_is_not_run_again_even_after_a_restart(
    relay: FakeRelay, pinned: Settings, centre: SigningCentre, *, auxiliary: bool
) -> None:
    """Its signature is still right: a relay that was taken over could grant it for ever."""
    job = centre.sign(new_callback() if auxiliary else new_job(RUN))
    allowed = pinned.model_copy(update={"auxiliary_jobs": (AuxiliaryKind.CALLBACK,)})
    async with running_agent(relay, allowed):
        await ran(relay, job)
    forget(relay, job)
    async with running_agent(relay, allowed) as agent:
        assert "has run here before" in await refusal(relay, agent, job)


async def test_a_job_whose_user_code_never_began_may_come_back(
    relay: FakeRelay, pinned: Settings, centre: SigningCentre
) -> None:
    """It waits again, and this may be the only worker of its queue."""
    job = centre.sign(new_job("print('before user code')"))
    async with running_agent(relay, pinned) as agent:
        await ran(relay, job)
        forget(relay, job)
        await ran(relay, job)
        assert agent.runtime.launched == [job.id, job.id]


async def test_the_first_keys_of_the_relay_count_and_later_ones_only_if_a_known_key_has_signed_them(
    relay: FakeRelay, settings: Settings, centre: SigningCentre, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without anything set by the owner. Until there are keys, nothing changes."""
    async with running_agent(relay, settings) as agent:
        await ran(relay, new_job())
        assert agent.runtime.launched
    announce(relay, centre)
    async with running_agent(relay, settings) as agent:
        await eventually((settings.state_dir / FILE).exists)
        assert "has not signed it" in await refusal(relay, agent, new_job())
        await ran(relay, centre.sign(new_job()))
    stranger = signing_centre(tmp_path / "stranger")
    stranger.rotate()
    announce(relay, stranger)
    relay.requests.clear()
    async with running_agent(relay, settings) as agent:
        await eventually(lambda: any(record.message == "signing_keys_refused" for record in caplog.records))
        await ran(relay, centre.sign(new_job()))
        forged = stranger.sign(new_job())
        await relay.publish(forged)
        await relay.until(lambda: bool(relay.released[1:]))
        assert forged.id not in agent.runtime.launched


async def test_a_rotation_is_followed_also_by_a_worker_that_was_offline_meanwhile(
    relay: FakeRelay, pinned: Settings, centre: SigningCentre
) -> None:
    """Two rotations even: the sets are handed out as a chain. Jobs from between are signed by both keys."""
    announce(relay, centre)
    waiting = centre.sign(new_job())
    async with running_agent(relay, pinned):
        await ran(relay, centre.sign(new_job()))
    centre.rotate()
    overlap = centre.sign(new_job())
    announce(relay, centre)
    async with running_agent(relay, pinned):
        await ran(relay, overlap)
        await ran(relay, waiting)
    centre.retire()
    centre.rotate()
    centre.retire()
    newest = centre.sign(new_job())
    announce(relay, centre)
    async with running_agent(relay, pinned):
        await eventually(lambda: _pinned(pinned).keys.keys() == {key_id(centre.keys[0])})
        await ran(relay, newest)


def _pinned(settings: Settings) -> PinnedKeys:
    return PinnedKeys(settings.state_dir, settings)


async def test_a_job_of_a_key_that_comes_later_is_put_off_and_not_held_against_it(
    relay: FakeRelay, pinned: Settings, centre: SigningCentre
) -> None:
    """The relay knows the new key for a minute less than the executor uses it."""
    announce(relay, centre)
    async with running_agent(relay, pinned) as agent:
        await eventually(lambda: relay.requests["/v1/worker/signing-keys"] > 0)
        centre.rotate()
        centre.retire()
        job = centre.sign(new_job())
        await relay.publish(job)
        await relay.until(lambda: bool(relay.released))
        assert (relay.released[0].counted, agent.runtime.launched) == (False, [])


async def test_the_owner_names_the_key_by_its_fingerprint(
    relay: FakeRelay, settings: Settings, centre: SigningCentre, tmp_path: Path
) -> None:
    """The relay brings it, and can bring no other."""
    named = settings.model_copy(update={"signing_key": fingerprint(centre.keys[0])})
    announce(relay, signing_centre(tmp_path / "stranger"))
    async with running_agent(relay, named) as agent:
        await eventually(lambda: relay.requests["/v1/worker/signing-keys"] > 0)
        assert "has not signed it" in await refusal(relay, agent, new_job())
        assert not _pinned(named).keys
    centre.rotate()
    announce(relay, centre)
    async with running_agent(relay, named):
        await eventually(lambda: set(_pinned(named).keys.values()) == set(centre.keys))
        await ran(relay, centre.sign(new_job()))


async def test_keys_are_pinned_at_the_enrolment(relay: FakeRelay, settings: Settings, centre: SigningCentre) -> None:
    announce(relay, centre)
    state = StateDir(settings.state_dir)
    state.prepare()
    await enroll(relay.url, ENROLL_TOKEN, settings, state, pause=asyncio.sleep)
    pins = _pinned(settings).pins
    assert pins is not None
    assert (pins.origin, pins.serial, pins.trust.keys) == ("first use", 1, centre.keys)


async def test_an_owner_who_requires_signatures_leaves_the_choice_of_the_key_to_no_relay(
    relay: FakeRelay, settings: Settings, centre: SigningCentre
) -> None:
    announce(relay, centre)
    strict = settings.model_copy(update={"signed_jobs": "required"})
    async with running_agent(relay, strict) as agent:
        await eventually(lambda: relay.requests["/v1/worker/signing-keys"] > 0)
        assert "has not signed it" in await refusal(relay, agent, new_job())
        assert _pinned(strict).pins is None


async def test_an_owner_may_want_no_checks(relay: FakeRelay, settings: Settings, centre: SigningCentre) -> None:
    announce(relay, centre)
    async with running_agent(relay, settings.model_copy(update={"signed_jobs": "off"})) as agent:
        await ran(relay, new_job())
        assert len(agent.runtime.launched) == 1
    assert relay.requests["/v1/worker/signing-keys"] == 0


def test_damaged_pins_are_no_reason_to_trust_anybody(pinned: Settings) -> None:
    pinned.state_dir.mkdir()
    (pinned.state_dir / FILE).write_text("{")
    with pytest.raises(SettingsError, match=FILE):
        PinnedKeys(pinned.state_dir, pinned)
    (pinned.state_dir / FILE).unlink()
    wrong = pinned.model_copy(update={"signing_keys": Path(__file__)})
    with pytest.raises(SettingsError, match="signing_keys"):
        PinnedKeys(pinned.state_dir, wrong)


def new_callback() -> Job:
    made = make_auxiliary_job(queue="default")
    work = made.work.model_copy(update={"workload": {"type": "ExecuteCallback", "script": "print('ran')"}})
    return made.model_copy(update={"work": work})
