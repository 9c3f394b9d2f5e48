"""The fake relay answers workers as a real one does."""

import asyncio
import gzip
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from contract.relay_backends import CENTRE, Agent, RelayBackend, Site, fake_relay, real_relay, running_relay, site_of
from edge_schemas.gate.centre import SigningKeys
from edge_schemas.wire import routes
from edge_schemas.wire.job_calls import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, LogPosition
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import PollAnswer
from edge_schemas.wire.workers import Enrollment, SecretKind, new_secret
from support.relay.bundles import MadeBundle, bundle_path, make_bundle
from support.relay.edge import Reply
from support.relay.jobs import make_job, payload_job

pytestmark = pytest.mark.asyncio(loop_scope="module")


Serve = Callable[[str], AbstractAsyncContextManager[RelayBackend]]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "real"])
async def serve(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serve]:
    """Gives a relay with this queue; the real one is started once."""
    if request.param == "fake":
        yield fake_relay
    else:
        async with running_relay(tmp_path_factory.mktemp("relay")) as (edge, gate):
            yield partial(real_relay, edge, gate)


@pytest_asyncio.fixture(loop_scope="module")
async def site(serve: Serve) -> AsyncIterator[Site]:
    async with serve(f"q{uuid.uuid4().hex[:8]}") as backend, site_of(backend) as site:
        yield site


async def granted(site: Site, agent: Agent) -> tuple[Job, dict[str, Any]]:
    """A new job and its grant."""
    job = make_job(site.backend.queue)
    await site.backend.publish(job)
    [grant] = await agent.grants()
    assert grant["job"]["id"] == job.id
    return job, grant


async def started(site: Site, agent: Agent) -> Job:
    """A new job, held by the agent."""
    job, grant = await granted(site, agent)
    assert (await agent.start(grant)).status == 204
    return job


def running(*jobs: Job, phase: str = "running") -> list[dict[str, Any]]:
    """The jobs of a poll."""
    return [{"id": job.id, "phase": phase} for job in jobs]


def refusal(reply: Reply) -> tuple[int, str]:
    """Status and code of a problem in the one form that workers read."""
    assert reply.headers["Content-Type"] == routes.PROBLEM_TYPE
    assert reply.json["request_id"] == reply.headers[routes.REQUEST_ID_HEADER]
    return reply.status, reply.code


async def test_enrolment(site: Site) -> None:
    agent, token = site.stranger(), await site.backend.enroll_token()
    first = await agent.enroll(token)
    enrollment = Enrollment.model_validate_json(first.body)
    assert first.headers["Content-Type"] == "application/json"
    assert (enrollment.site, enrollment.settings.queues) == ("plant", (site.backend.queue,))
    assert (enrollment.settings.version, enrollment.airflow) == (1, CENTRE.airflow_version)
    assert (await agent.enroll(token)).json["worker"] == enrollment.worker, "a repeat gives the same worker"
    other = site.stranger()
    assert (await other.enroll(token)).json["worker"] != enrollment.worker
    assert refusal(await site.stranger().enroll("ere_unknown")) == (403, "enrollment_refused")
    assert refusal(await site.stranger().enroll(token, protocol=99)) == (426, "protocol_unsupported")
    assert refusal(await site.stranger().enroll(token, secret_hash="x")) == (400, "invalid_request")


async def test_credentials(site: Site) -> None:
    agent = await site.worker()
    facts = await agent.call("GET", routes.WORKER)
    assert {name: facts.json[name] for name in ("worker", "site", "queues", "protocols", "centre")} == {
        "worker": agent.name,
        "site": "plant",
        "queues": [site.backend.queue],
        "protocols": [1],
        "centre": CENTRE.model_dump(mode="json", exclude_none=True),
    }
    stranger = site.stranger()
    for reply in (
        await stranger.poll(),
        await stranger.call("GET", routes.WORKER),
        await stranger.finish(make_job().id),
    ):
        assert refusal(reply) == (401, "unauthenticated")
    await site.backend.revoke(agent.name)
    assert refusal(await agent.poll()) == (401, "credential_revoked")


async def test_the_key_sets_of_the_centre_are_handed_out(site: Site) -> None:
    agent, token = site.stranger(), await site.backend.enroll_token()
    enrollment = Enrollment.model_validate_json((await agent.enroll(token)).body)
    assert enrollment.signing_keys == CENTRE.signing_keys
    keys = await agent.call("GET", routes.WORKER_SIGNING_KEYS)
    assert SigningKeys.model_validate_json(keys.body).sets == CENTRE.signing_keys
    assert refusal(await site.stranger().call("GET", routes.WORKER_SIGNING_KEYS)) == (401, "unauthenticated")


async def test_a_secret_is_rotated(site: Site) -> None:
    agent = await site.worker()
    older, following, other = agent.secret, new_secret(SecretKind.WORKER), new_secret(SecretKind.WORKER)
    assert refusal(await agent.register_secret(following)) == (409, "wrong_state"), "nobody has asked for it"
    await site.backend.rotate(agent.name)
    assert (await agent.poll(settings_version=0)).json["settings"]["rotation"] == 1
    assert refusal(await agent.register_secret(following, rotation=2)) == (409, "wrong_state")
    for _ in range(2):
        assert (await agent.register_secret(following)).status == 204
        assert (await agent.call("GET", routes.WORKER)).status == 200, "the older one is valid until the next is used"
    assert refusal(await agent.register_secret(other)) == (409, "wrong_state"), "one secret for a rotation"
    assert refusal(await site.stranger().register_secret(other)) == (401, "unauthenticated")
    agent.secret = following
    assert (await agent.call("GET", routes.WORKER)).json["worker"] == agent.name
    assert (await agent.register_secret(following)).status == 204, "a repeat after the first use"
    assert refusal(await agent.call("GET", routes.WORKER, secret=older)) == (401, "credential_revoked")
    assert refusal(await agent.register_secret(other)) == (409, "wrong_state"), "the rotation is complete"


async def test_the_request_id_comes_back(site: Site) -> None:
    agent = await site.worker()
    own = await agent.call("GET", routes.WORKER, headers={routes.REQUEST_ID_HEADER: "request-0001"})
    assert own.headers[routes.REQUEST_ID_HEADER] == "request-0001"
    for bad in ("x", "with space in it"):
        reply = await agent.call("GET", routes.WORKER, headers={routes.REQUEST_ID_HEADER: bad})
        assert reply.headers[routes.REQUEST_ID_HEADER] != bad
        assert reply.headers[routes.REQUEST_ID_HEADER]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": 99}, (426, "protocol_unsupported")),
        ({"free": 9}, (400, "invalid_request")),
        ({"unknown": 1}, (400, "invalid_request")),
        ({"jobs": [{"id": "no-id", "phase": "running"}]}, (400, "invalid_request")),
        ({"jobs": [{"id": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "phase": "running"}] * 2}, (400, "invalid_request")),
        ({"poll_timeout_s": 51}, (400, "invalid_request")),
    ],
)
async def test_malformed_polls(site: Site, changes: dict[str, Any], expected: tuple[int, str]) -> None:
    agent = await site.worker()
    assert refusal(await agent.poll(**changes)) == expected


async def test_a_body_of_another_type(site: Site) -> None:
    agent = await site.worker()
    reply = await agent.call("POST", routes.POLL, json=agent.report(), headers={"Content-Type": "text/plain"})
    assert refusal(reply) == (415, "unsupported_media_type")
    assert refusal(await agent.call("POST", routes.POLL, body=b"{", headers={"Content-Type": "application/json"})) == (
        400,
        "invalid_request",
    )


async def test_a_poll_with_nothing_to_say(site: Site) -> None:
    agent = await site.worker()
    reply = await agent.poll()
    assert (reply.status, reply.body) == (204, b"")


async def test_a_grant(site: Site) -> None:
    agent = await site.worker()
    job, grant = await granted(site, agent)
    assert set(grant) == {"job", "receipt", "expires_at"}
    assert Job.model_validate(grant["job"]) == job
    assert (await agent.poll()).status == 204, "the job is not granted twice meanwhile"


async def test_no_more_grants_than_a_worker_has_room_for(site: Site) -> None:
    agent = await site.worker()
    jobs = [make_job(site.backend.queue) for _ in range(3)]
    for job in jobs:
        await site.backend.publish(job)
    assert (await agent.poll(free=0)).status == 204
    assert len(await agent.grants(1)) == 1
    assert len(await agent.grants(2)) == 2


async def test_a_waiting_poll_gets_the_job_that_comes(site: Site) -> None:
    agent = await site.worker()
    polling = asyncio.create_task(agent.poll(poll_timeout_s=10))
    job = make_job(site.backend.queue)
    await site.backend.publish(job)
    answer = PollAnswer.model_validate_json((await polling).body)
    assert [grant.job.id for grant in answer.grants] == [job.id]


async def test_start_and_finish(site: Site) -> None:
    agent = await site.worker()
    job, grant = await granted(site, agent)
    assert [(await agent.start(grant)).status for _ in range(2)] == [204, 204], "a repeat gets the same answer"
    assert (await agent.poll(jobs=running(job))).status == 204
    finish = {"receipt": grant["receipt"], "incarnation": 1, "exit_code": 0}
    replies = [await agent.finish(job.id, **finish) for _ in range(2)]
    assert [(reply.status, reply.body) for reply in replies] == [(204, b"")] * 2
    assert refusal(await agent.start(grant)) == (410, "job_ended")


async def test_receipts(site: Site) -> None:
    one, two = await site.worker(), await site.worker()
    job, grant = await granted(site, one)
    assert refusal(await one.start({**grant, "receipt": "made-up"})) == (400, "invalid_request")
    assert refusal(await one.release({**grant, "receipt": "made-up"})) == (400, "invalid_request")
    assert refusal(await one.start(grant, job=make_job().id)) == (400, "invalid_request")
    assert refusal(await one.start(grant, job="no-id")) == (400, "invalid_request")
    assert refusal(await two.start(grant)) == (403, "forbidden")
    assert refusal(await two.release(grant)) == (403, "forbidden")
    assert refusal(await one.finish(job.id, receipt="made-up")) == (400, "invalid_request")
    assert (await one.start(grant)).status == 204


async def test_only_the_holder_finishes(site: Site) -> None:
    one, two = await site.worker(), await site.worker()
    job, grant = await granted(site, one)
    assert refusal(await one.finish(job.id)) == (409, "wrong_state")
    await one.start(grant)
    assert refusal(await two.finish(job.id)) == (409, "not_holder")
    assert refusal(await one.finish(make_job().id)) == (410, "job_ended")


async def test_release(site: Site) -> None:
    agent = await site.worker()
    _, grant = await granted(site, agent)
    assert (await agent.release(grant, counted=False)).status == 204
    _, other = await granted(site, agent)
    await agent.start(other)
    assert refusal(await agent.release(other)) == (409, "wrong_state")
    assert refusal(await agent.release(other, reason="")) == (400, "invalid_request")


async def test_a_consumer_releases_a_started_payload_once_and_finishes_it_with_a_result(site: Site) -> None:
    agent = await site.worker()
    job = payload_job(site.backend.queue)
    await site.backend.publish(job)
    [grant] = await agent.grants(kinds=["payload"])
    await agent.start(grant)
    assert [(await agent.release(grant, delay_s=0)).status for _ in range(2)] == [204, 204]
    assert refusal(await agent.start(grant)) == (409, "receipt_expired")
    await site.backend.publish(payload_job(site.backend.queue))
    # This one, or the released one: a relay that looks after submitted jobs hands that out again.
    [grant] = await agent.grants(kinds=["payload"])
    await agent.start(grant)
    job_id = grant["job"]["id"]
    wrong = {"text": "a", "data": "YQ=="}
    assert refusal(await agent.finish(job_id, exit_code=0, result=wrong)) == (400, "invalid_request")
    finish = {"receipt": grant["receipt"], "exit_code": 0, "result": {"text": "r" * 256 * 1024}}
    assert [(await agent.finish(job_id, **finish)).status for _ in range(2)] == [204, 204]
    assert refusal(await agent.release(grant)) == (410, "job_ended")


async def test_a_worker_finishes_without_user_code_and_gives_the_job_back(site: Site) -> None:
    agent = await site.worker()
    job, grant = await granted(site, agent)
    await agent.start(grant)
    reply = await agent.finish(job.id, receipt=grant["receipt"], release=True, reason="shut down")
    assert reply.status == 204
    assert refusal(await agent.put_log(job.id, 0, b"x")) == (409, "wrong_state"), "nobody holds the job"


async def test_a_withdrawn_job_is_stopped(site: Site) -> None:
    agent = await site.worker()
    job = await started(site, agent)
    polling = asyncio.create_task(agent.poll(poll_timeout_s=10, free=0, jobs=running(job)))
    await site.backend.withdraw(job.id)
    [stop] = (await polling).json["stop"]
    assert (stop["job"], stop["drop"], bool(stop["reason"])) == (job.id, False, True)
    assert (await agent.poll(free=0, jobs=running(job, phase="finishing"))).status == 204, "it may report its end"


async def test_what_is_not_the_workers_any_more_is_dropped(site: Site) -> None:
    one, two = await site.worker(), await site.worker()
    ended, lost = await started(site, one), await started(site, one)
    await one.finish(ended.id)
    unknown = make_job()
    await site.backend.give_up(lost.id)
    [again] = await two.grants()
    assert (await two.start(again)).status == 204
    reply = await one.poll(free=0, jobs=running(ended, lost, unknown))
    assert {(stop["job"], stop["drop"]) for stop in reply.json["stop"]} == {
        (j.id, True) for j in (ended, lost, unknown)
    }
    assert refusal(await one.finish(lost.id)) == (409, "not_holder")


async def test_a_given_up_job_that_waits_is_dropped_but_for_one_that_was_only_granted(site: Site) -> None:
    agent = await site.worker()
    job = await started(site, agent)
    await site.backend.give_up(job.id)
    reply = await agent.poll(free=0, jobs=running(job))
    assert [(stop["job"], stop["drop"]) for stop in reply.json["stop"]] == [(job.id, True)]
    assert (await agent.poll(free=0, jobs=running(job, phase="granted"))).status == 204


async def test_a_newer_agent_supersedes_an_older_one(site: Site) -> None:
    old = await site.worker()
    assert (await old.poll()).status == 204
    new = Agent(site.backend, site.session, old.secret, old.name, old.instance, incarnation=2)
    polling = asyncio.create_task(old.poll(poll_timeout_s=10))
    await asyncio.sleep(0.1)
    assert (await new.poll()).status == 204
    reply = await polling
    assert (refusal(reply), reply.json["superseded_by"]) == ((409, "superseded"), 2)


async def test_an_older_agent_that_lives_on_is_in_conflict_with_the_newer_one(site: Site) -> None:
    old = await site.worker()
    await old.poll()
    copy = Agent(site.backend, site.session, old.secret, old.name, instance="copy", incarnation=2)
    await copy.poll()
    await old.poll(superseded_by=2)
    told = PollAnswer.model_validate_json((await copy.poll(poll_timeout_s=5)).body)
    assert told.conflict is not None
    assert (told.conflict.older.incarnation, told.conflict.newer.incarnation) == (1, 2)
    await site.backend.publish(make_job(site.backend.queue))
    assert (await copy.poll(in_conflict=True)).status == 204, "it gets no jobs"
    assert len(await old.grants()) == 1


async def test_a_copy_may_not_take_over_a_job_yet(site: Site) -> None:
    old = await site.worker()
    job, grant = await granted(site, old)
    await old.start(grant)
    copy = Agent(site.backend, site.session, old.secret, old.name, instance="copy", incarnation=2)
    await copy.poll()
    reply = await copy.start(grant)
    assert (refusal(reply), bool(reply.headers["Retry-After"])) == ((409, "takeover_pending"), True)
    assert refusal(await copy.finish(job.id, incarnation=2)) == (409, "takeover_pending")


async def test_an_agent_with_the_same_state_folder_takes_over_at_once(site: Site) -> None:
    old = await site.worker()
    job, grant = await granted(site, old)
    await old.start(grant)
    again = Agent(site.backend, site.session, old.secret, old.name, old.instance, incarnation=2)
    assert refusal(await again.start(grant)) == (409, "takeover_pending"), "it has not polled yet"
    await again.poll()
    assert (await again.start(grant)).status == 204
    assert (await again.finish(job.id, incarnation=2)).status == 204


async def test_a_log_is_stored_once_and_in_order(site: Site) -> None:
    agent = await site.worker()
    job = await started(site, agent)
    first = await agent.put_log(job.id, 0, b"0123456789")
    assert first.headers["Content-Type"] == "application/json"
    assert LogPosition.model_validate_json(first.body).offset == 10
    for offset, chunk, end in ((5, b"56789abc", 13), (2, b"234", 13), (13, b"", 13)):
        assert (await agent.put_log(job.id, offset, chunk)).json == {"offset": end}
    gap = await agent.put_log(job.id, 14, b"x")
    assert (refusal(gap), gap.json["expected_offset"]) == ((409, "offset_mismatch"), 13)
    packed = await agent.put_log(job.id, 13, gzip.compress(b"more"), Content_Encoding="gzip")
    assert packed.json == {"offset": 17}
    await agent.finish(job.id)
    assert (await agent.put_log(job.id, 17, b"!")).json == {"offset": 18}, "also after the end"
    assert await site.backend.log(job) == b"0123456789abcmore!"


async def test_refused_logs(site: Site) -> None:
    one, two = await site.worker(), await site.worker()
    job = await started(site, one)
    waiting, _ = await granted(site, one)
    assert refusal(await two.put_log(job.id, 0, b"x")) == (409, "not_holder")
    assert refusal(await one.put_log(waiting.id, 0, b"x")) == (409, "wrong_state")
    assert refusal(await one.put_log(make_job().id, 0, b"x")) == (410, "job_ended")
    assert refusal(await one.put_log(job.id, -1, b"x")) == (400, "invalid_request")
    assert refusal(await one.put_log(job.id, 0, b"x", Content_Type="text/plain")) == (415, "unsupported_media_type")
    assert refusal(await one.put_log(job.id, 0, b"x", Content_Encoding="br")) == (415, "unsupported_media_type")
    assert refusal(await one.put_log(job.id, 0, b"no gzip", Content_Encoding="gzip")) == (400, "invalid_request")
    for much in (bytes(MAX_CHUNK_BYTES + 1), gzip.compress(bytes(MAX_CHUNK_DECODED_BYTES + 1))):
        reply = await one.put_log(job.id, 0, much, Content_Encoding="gzip")
        assert refusal(reply) == (413, "payload_too_large")


async def test_the_log_of_the_next_holder_follows_the_one_before(site: Site) -> None:
    one, two = await site.worker(), await site.worker()
    job = await started(site, one)
    await one.put_log(job.id, 0, b"first\n")
    await site.backend.give_up(job.id)
    [again] = await two.grants()
    await two.start(again)
    assert (await two.put_log(job.id, 0, b"second ")).json == {"offset": 7}
    assert (await two.put_log(job.id, 7, b"holder\n")).json == {"offset": 14}
    assert refusal(await one.put_log(job.id, 0, b"late\n")) == (409, "not_holder")
    log = await site.backend.log(job)
    # The relay marks where the further attempt begins.
    assert (log[:6], log[-14:]) == (b"first\n", b"second holder\n")
    assert b"late" not in log


async def test_calls_of_tasks_are_passed_on_as_they_came(site: Site) -> None:
    agent = await site.worker()
    job = await started(site, agent)
    site.backend.answer_execution(409, {"detail": {"reason": "invalid_state"}})
    ids = {routes.REQUEST_ID_HEADER: "request-0001"}
    reply = await agent.execution("PATCH", job.id, "xcoms/a%20b/%C3%A4", json={"k": 1}, headers=ids)
    assert (reply.status, reply.json) == (409, {"detail": {"reason": "invalid_state"}})
    assert reply.headers["Content-Type"] == "application/json", "Airflow's client reads no error of another type"
    assert reply.headers[routes.ORIGIN_HEADER] == routes.EXECUTION_ORIGIN
    site.backend.answer_execution(204, None)
    empty = await agent.execution("PUT", job.id, "task-instances/x/heartbeat", json={})
    assert (empty.status, empty.body, empty.headers[routes.ORIGIN_HEADER]) == (204, b"", routes.EXECUTION_ORIGIN)
    assert site.backend.execution_calls()[0] == ("PATCH", "xcoms/a%20b/%C3%A4", "request-0001")
    assert len(site.backend.execution_calls()) == 2


async def test_refused_calls_of_tasks(site: Site) -> None:
    one, two = await site.worker(), await site.worker()
    job = await started(site, one)
    waiting, _ = await granted(site, one)
    site.backend.answer_execution(200, {})
    refused = [
        (await two.execution("GET", job.id, "variables/x"), (409, "not_holder")),
        (await one.execution("GET", waiting.id, "variables/x"), (409, "wrong_state")),
        (await one.execution("GET", make_job().id, "variables/x"), (410, "job_ended")),
        (await one.execution("GET", "no-id", "variables/x"), (400, "invalid_request")),
        (await one.execution("GET", job.id, "~not-base64!"), (400, "invalid_request")),
        (
            await one.execution("PUT", job.id, "x", body=b"x", headers={"Content-Encoding": "gzip"}),
            (415, "unsupported_media_type"),
        ),
    ]
    for reply, expected in refused:
        assert refusal(reply) == expected
        assert routes.ORIGIN_HEADER not in reply.headers
    await one.finish(job.id)
    assert refusal(await one.execution("GET", job.id, "variables/x")) == (410, "job_ended")
    assert site.backend.execution_calls() == []


async def runs(site: Site, agent: Agent, bundle: MadeBundle) -> Job:
    """A new job that runs this version, held by the agent; the version is published."""
    await site.backend.publish_bundle(bundle)
    job = bundle.run_by(make_job(site.backend.queue))
    await site.backend.publish(job)
    [grant] = await agent.grants()
    assert grant["job"]["bundle"] == {"name": bundle.name, "digest": bundle.digest}
    assert (await agent.start(grant)).status == 204
    return job


@pytest.mark.parametrize("name", ["dags", "a/b %2F?#{x}", "ünï-コード\n", ".."])
async def test_a_bundle_is_fetched(site: Site, name: str) -> None:
    agent, bundle = (
        await site.worker(),
        make_bundle({"a.py": b"import b", "b.py": b"x = 1\n" * 100, "empty": b""}, name),
    )
    job = await runs(site, agent, bundle)
    manifest = await agent.manifest(job, bundle.path)
    assert (manifest.status, manifest.body) == (200, bundle.frame)
    assert (manifest.headers["Content-Type"], manifest.headers["ETag"]) == ("application/zstd", f'"{bundle.digest}"')
    one, two = bundle.manifest.pieces
    for wanted in ((one,), (two, one)):
        pieces = await agent.pieces(job, bundle.pieces_path, *wanted)
        assert (pieces.status, pieces.headers["Content-Type"]) == (200, "application/octet-stream")
        assert pieces.body == bundle.answer(*wanted)
    for offset in (0, 5, len(bundle.frames[two])):
        pieces = await agent.pieces(job, bundle.pieces_path, two, one, offset=offset)
        assert pieces.body == bundle.answer(two, one, offset=offset), "only the first frame is shortened"


async def test_a_bundle_is_for_the_holder_of_its_job(site: Site) -> None:
    agent, other = await site.worker(), await site.worker()
    bundle, another = make_bundle({"a.py": b"1"}), make_bundle({"a.py": b"1", "b.py": b"2"})
    job, plain = await runs(site, agent, bundle), await started(site, agent)
    await site.backend.publish_bundle(another)
    [piece, *_] = bundle.manifest.pieces
    waiting = bundle.run_by(make_job(site.backend.queue))

    async def both(caller: Agent, job: Job, name: str = bundle.name, digest: str = bundle.digest) -> tuple[int, str]:
        manifest = await caller.manifest(job, bundle_path(routes.BUNDLE, name, digest))
        pieces = await caller.pieces(job, bundle_path(routes.BUNDLE_PIECES, name, digest), piece)
        assert refusal(manifest) == refusal(pieces)
        return refusal(manifest)

    assert await both(other, job) == (409, "not_holder")
    assert await both(agent, waiting) == (410, "job_ended"), "unknown"
    assert await both(agent, plain) == (403, "forbidden"), "it runs no bundle"
    assert await both(agent, job, digest=another.digest) == (403, "forbidden")
    assert await both(agent, job, name="others") == (403, "forbidden")
    assert await both(site.stranger(), job) == (401, "unauthenticated")
    assert await both(agent, job, digest="A" * 64) == (400, "invalid_request")
    assert await both(agent, job, digest="a" * 63) == (400, "invalid_request")
    await site.backend.publish(waiting)
    assert await both(agent, waiting) == (409, "wrong_state")
    assert (await agent.finish(job.id, exit_code=0)).status == 204
    assert await both(agent, job) == (410, "job_ended")


async def test_refused_requests_for_pieces(site: Site) -> None:
    agent, bundle = await site.worker(), make_bundle({f"{number}.py": b"%d" % number for number in range(3)})
    job = await runs(site, agent, bundle)
    [piece, gone, last] = bundle.manifest.pieces
    frame = bundle.frames[piece]
    wrong: list[dict[str, object]] = [
        {"pieces": []},
        {"pieces": [piece, piece]},
        {"pieces": [f"{number:064x}" for number in range(1001)]},
        {"pieces": ["x"]},
        {"pieces": [1]},
        {"pieces": piece},
        {"pieces": [piece.upper()]},
        {"pieces": [piece], "offset": -1},
        {"pieces": [piece], "offset": "x"},
        {"pieces": [piece], "offset": len(frame) + 1},
        {"pieces": [piece], "offset": 1 << 40},
        {"pieces": [piece], "unknown": 1},
        {"job": "no-id", "pieces": [piece]},
    ]
    for body in wrong:
        reply = await agent.call("POST", bundle.pieces_path, json={"job": job.id, **body})
        assert refusal(reply) == (400, "invalid_request"), body
    assert refusal(await agent.call("GET", bundle.path)) == (400, "invalid_request"), "without a job"
    foreign = await agent.pieces(job, bundle.pieces_path, piece, "0" * 64)
    assert refusal(foreign) == (403, "forbidden")
    large = await agent.call("POST", bundle.pieces_path, json={"job": job.id, "pieces": [piece], "x": "x" * 200_000})
    assert refusal(large) == (413, "payload_too_large")
    assert refusal(await agent.call("POST", bundle.pieces_path, body=b"x")) == (415, "unsupported_media_type")
    await site.backend.remove_piece(gone)
    assert refusal(await agent.pieces(job, bundle.pieces_path, gone)) == (404, "not_found")
    with pytest.raises(aiohttp.ClientPayloadError):
        await agent.pieces(job, bundle.pieces_path, piece, gone, last)


async def test_a_version_that_is_not_stored(site: Site) -> None:
    agent, bundle = await site.worker(), make_bundle({"a.py": b"never published"})
    job = bundle.run_by(make_job(site.backend.queue))
    await site.backend.publish(job)
    [grant] = await agent.grants()
    assert (await agent.start(grant)).status == 204
    assert refusal(await agent.manifest(job, bundle.path)) == (404, "not_found")
    assert refusal(await agent.pieces(job, bundle.pieces_path, *bundle.manifest.pieces)) == (404, "not_found")
