"""Enrolment: a token becomes workers, as many as it has uses, however often a call is repeated."""

import asyncio
import base64
import re
from datetime import UTC, datetime, timedelta

import pytest

from edge_broker.bucket import Bucket
from edge_broker.subjects import ACCESS_BUCKET, kv_stream, kv_subject
from edge_relay.identity.access_keys import NAME_PREFIX
from edge_relay.identity.worker_names import WorkerNames, candidate_names
from edge_schemas.wire import routes
from edge_schemas.wire.workers import EnrollRequest, EnrollTokenRequest, SecretKind, hash_secret, new_secret
from support.relay.edge import Edge


async def test_a_token_becomes_a_worker_with_the_tokens_rights(edge: Edge) -> None:
    reply = await edge.enroll(await edge.token(site="plant-7", queue="weld.süd"))
    assert reply.status == 200
    assert reply.json["site"] == "plant-7"
    assert reply.json["worker"].startswith("plant-7-")
    assert reply.json["settings"] == {
        "version": 1,
        "queues": ["weld.süd"],
        "availability": "active",
        "rotation": 0,
    }


async def test_a_repeat_gets_the_same_answer_and_takes_no_second_use(edge: Edge) -> None:
    token, secret = await edge.token(uses=2), new_secret(SecretKind.WORKER)
    answers = [await edge.enroll(token, secret) for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    assert (await edge.enroll(token)).status == 200
    assert (await edge.enroll(token)).code == "enrollment_refused"
    assert (await edge.enroll(token, secret)).body == answers[0].body


async def test_many_at_once_get_no_more_than_the_uses(edge: Edge) -> None:
    token = await edge.token(uses=3)
    replies = await asyncio.gather(*(edge.enroll(token) for _ in range(12)))
    assert sorted(reply.status for reply in replies) == [200] * 3 + [403] * 9
    assert len({reply.json["worker"] for reply in replies if reply.status == 200}) == 3


async def reserved_names(edge: Edge) -> int:
    bucket = Bucket(edge.broker, ACCESS_BUCKET)
    found = [await bucket.get(key) for key in await bucket.keys(f"{NAME_PREFIX}*")]
    return len([stored for stored in found if stored.value is not None])


async def test_whoever_loses_the_race_for_a_token_leaves_nothing_behind(edge: Edge) -> None:
    token = await edge.token(uses=3)
    replies = await asyncio.gather(*(edge.enroll(token, replica=n % len(edge.relays)) for n in range(50)))
    assert sorted(reply.status for reply in replies) == [200] * 3 + [403] * 47
    assert await reserved_names(edge) == 3


async def test_one_secret_with_two_tokens_at_once_gets_one_worker_and_each_token_answers_for_itself(edge: Edge) -> None:
    workers = 0
    for _ in range(12):
        secret = new_secret(SecretKind.WORKER)
        tokens = {queue: await edge.token(queue=queue, site=f"site-{queue}") for queue in ("a", "b")}
        replies = await asyncio.gather(*(edge.enroll(token, secret) for token in tokens.values()))
        good = {queue for queue, reply in zip(tokens, replies, strict=True) if reply.status == 200}
        assert len(good) == 1
        workers += 1
        for queue, reply in zip(tokens, replies, strict=True):
            if queue in good:
                assert reply.json["settings"]["queues"] == [queue]
            else:
                assert (reply.code, "has this secret" in reply.json["detail"]) == ("enrollment_refused", True)
                assert (await edge.enroll(tokens[queue])).status == 200, "its use is still there"
                workers += 1
    assert await reserved_names(edge) == workers


async def test_a_name_that_was_taken_in_between_is_replaced(edge: Edge) -> None:
    """Another secret reserves it after the use was counted and before the name was reserved."""
    token, secret = await edge.token(site="s"), new_secret(SecretKind.WORKER)
    short, longer = candidate_names("s", hash_secret(secret))[:2]
    store, found = edge.enrollments, WorkerNames.find_free

    async def slow(self: WorkerNames, site: str, secret_hash: str) -> str:
        name = await found(self, site, secret_hash)
        if name == short:
            await store._bucket.put(NAME_PREFIX + short, b"0" * 64, revision=0)
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerNames, "find_free", slow)
        access, _ = await store.enroll(
            token, EnrollRequest(protocol=1, secret_hash=hash_secret(secret)), now=datetime.now(UTC)
        )
    assert access.worker == longer
    assert (await edge.enroll(token, secret)).json["worker"] == longer


async def test_a_revoked_worker_does_not_come_back_by_a_repeat(edge: Edge) -> None:
    """It would think itself enrolled, and be refused from its first poll on."""
    token, secret = await edge.token(uses=2), new_secret(SecretKind.WORKER)
    worker = (await edge.enroll(token, secret)).json["worker"]
    await edge.act_on_worker(worker, "revoke")
    reply = await edge.enroll(token, secret)
    assert (reply.status, reply.code) == (403, "enrollment_refused")
    assert "revoked" in reply.json["detail"]


async def test_refusals_say_why(edge: Edge) -> None:
    """Unknown, expired and used up have one code; a person is told which of the last two it is."""
    stale = await edge.enrollments.create_token(
        EnrollTokenRequest(queues=("default",), site="s", ttl_s=60), now=datetime.now(UTC) - timedelta(hours=1)
    )
    spent = await edge.token()
    await edge.enroll(spent)
    for token, why in [
        (stale.token, "expired"),
        (spent, "used up"),
        (new_secret(SecretKind.ENROLLMENT), "unknown"),
        (new_secret(SecretKind.WORKER), "begins with ere_"),
        ("ere_\xff", "begins with"),
    ]:
        reply = await edge.enroll(token)
        assert (reply.status, reply.code) == (403, "enrollment_refused")
        assert why in reply.json["detail"]
    assert (await edge.call("POST", routes.ENROLL, json={})).code == "unauthenticated"


async def test_an_unserved_protocol_is_refused_before_a_use_is_taken(edge: Edge) -> None:
    token = await edge.token()
    body = {"protocol": 99, "secret_hash": "0" * 64}
    reply = await edge.call("POST", routes.ENROLL, token, json=body)
    assert (reply.status, reply.code) == (426, "protocol_unsupported")
    assert (await edge.enroll(token)).status == 200


async def test_nobody_gets_the_name_of_another(edge: Edge) -> None:
    """A name comes from a hash that the worker chose: equal beginnings must not become equal names."""
    token = await edge.token(uses=3, site="s" * 63)
    hashes = ["ab" * 16 + f"{i:032x}" for i in range(3)]
    requests = [EnrollRequest(protocol=1, secret_hash=one).model_dump(mode="json") for one in hashes]
    replies = [await edge.call("POST", routes.ENROLL, token, json=request) for request in requests]
    names = [reply.json["worker"] for reply in replies]
    assert len(set(names)) == 3
    assert all(len(name) <= 63 for name in names)


async def test_a_secret_belongs_to_one_worker(edge: Edge) -> None:
    """With another token it would get other queues without anybody noticing."""
    secret = new_secret(SecretKind.WORKER)
    await edge.enroll(await edge.token(), secret)
    other = await edge.token(queue="other")
    assert (await edge.enroll(other, secret)).code == "enrollment_refused"
    assert (await edge.enroll(other)).status == 200


async def test_secrets_are_kept_as_hashes_only(edge: Edge) -> None:
    token, secret = await edge.token(), new_secret(SecretKind.WORKER)
    await edge.enroll(token, secret)
    files = [p.read_bytes() for p in (edge.server._directory / "jetstream").rglob("*") if p.is_file()]
    assert any(hash_secret(secret).encode() in content for content in files)
    for one in (token, secret, edge.access_token):
        assert not any(one.encode() in content for content in files)


async def test_an_enrolment_token_leaves_the_bucket_a_day_after_it_expires(edge: Edge) -> None:
    """Each use writes its entry again: that must not make it stay for ever, nor go while a repeat may come."""
    token = await edge.token(uses=2, ttl_s=3600)
    assert await _life_s(edge, token) == 3600 + 86400
    for _ in range(2):
        assert (await edge.enroll(token)).status == 200
        assert 3600 + 86400 - 60 < await _life_s(edge, token) <= 3600 + 86400


async def _life_s(edge: Edge, token: str) -> int:
    """After which time the server removes what it has about a token; 0 for never."""
    subject = kv_subject("edge_access", f"enroll.{hash_secret(token)}")
    call = f"STREAM.MSG.GET.{kv_stream('edge_access')}"
    message = (await edge.broker.api(call, {"last_by_subj": subject}))["message"]
    found = re.search(rb"Nats-TTL: ?([0-9]+)s", base64.b64decode(message.get("hdrs", "")))
    return int(found[1]) if found else 0
