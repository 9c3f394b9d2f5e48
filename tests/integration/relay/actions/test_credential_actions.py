"""Rotation of a worker's secret and removal of a worker, step by step, with crashes between the steps."""

import pytest

from edge_broker.bucket import Bucket
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.subjects import ACCESS_BUCKET, DESIRED_BUCKET, WORKERS_BUCKET
from edge_relay.identity.enrollment import EnrollmentStore
from edge_schemas.admin.desired import DesiredWorker
from edge_schemas.wire import routes
from edge_schemas.wire.workers import SecretAlias, SecretKind, WorkerAccess, hash_secret, new_secret
from support.nats.server import eventually
from support.relay.agents import VERSIONS, Agent
from support.relay.edge import Edge, Reply, Worker


async def act(edge: Edge, worker: str, do: str, *, replica: int = 0) -> tuple[int, list[str]]:
    """An action: how many workers it changed, and the codes of its failures."""
    order = {"action": {"do": do}, "workers": [worker], "reason": "a test"}
    reply = await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, order, replica=replica)
    assert reply.status == 200, reply.body
    return len(reply.json["changed"]), [one["code"] for one in reply.json.get("failures", [])]


async def entry(edge: Edge, secret: str) -> WorkerAccess:
    stored = await Bucket(edge.broker, ACCESS_BUCKET).get(f"worker.{hash_secret(secret)}")
    assert stored.value is not None
    return WorkerAccess.model_validate_json(stored.value)


async def register(edge: Edge, bearer: str, secret: str, rotation: int, *, replica: int = 0) -> Reply:
    body = {"secret_hash": hash_secret(secret), "rotation": rotation}
    return await edge.call("POST", routes.WORKER_SECRET, bearer, json=body, replica=replica)


async def show(edge: Edge, secret: str, *, replica: int = 0) -> Reply:
    return await edge.call("GET", routes.WORKER, secret, replica=replica)


async def refused(edge: Edge, secret: str, *, replica: int) -> None:
    async def is_refused() -> bool:
        return (await show(edge, secret, replica=replica)).code == "credential_revoked"

    await eventually(is_refused, timeout_s=2, what=f"replica {replica} refuses the older secret")


def new() -> str:
    return new_secret(SecretKind.WORKER)


async def test_the_older_secret_is_valid_until_the_new_one_is_used(edge: Edge) -> None:
    worker, secret = await edge.worker(), new()
    assert await act(edge, worker.name, "rotate") == (1, [])
    assert await act(edge, worker.name, "rotate") == (0, []), "a repeat changes nothing"
    one = Agent(edge, worker)
    answer = await one.poll(poll_timeout_s=0, settings_version=1)
    assert (answer.json["settings"]["rotation"], answer.json["settings"]["version"]) == (1, 2)
    for _ in range(2):
        assert (await register(edge, worker.secret, secret, 1)).status == 204
        for replica in (0, 1):
            assert (await show(edge, worker.secret, replica=replica)).status == 200
    used = await show(edge, secret, replica=1)
    assert (used.status, used.json["worker"]) == (200, worker.name)
    for replica in (0, 1):
        await refused(edge, worker.secret, replica=replica)
        assert (await show(edge, secret, replica=replica)).json["worker"] == worker.name
    assert (await register(edge, secret, secret, 1)).status == 204, "a repeat after the first use"
    page = await edge.admin("GET", f"{routes.ADMIN_AUDIT}?target={worker.name}&action=credential-rotated")
    [event] = page.json["items"]
    assert (event["after"], event["actor"]["kind"]) == ({"rotation": 1}, "worker")


async def test_a_secret_is_rotated_again_and_again(edge: Edge) -> None:
    worker = await edge.worker()
    secrets = [worker.secret]
    for rotation in (1, 2, 3):
        assert await act(edge, worker.name, "rotate", replica=rotation % 2) == (1, [])
        secrets.append(new())
        assert (await register(edge, secrets[-2], secrets[-1], rotation, replica=rotation % 2)).status == 204
        assert (await show(edge, secrets[-1])).status == 200
        for older in secrets[:-1]:
            codes = {(await show(edge, older)).code}
            assert codes <= {"credential_revoked", "unauthenticated"}, older
    keys = await Bucket(edge.broker, ACCESS_BUCKET).keys("worker.*")
    bucket = Bucket(edge.broker, ACCESS_BUCKET)
    left = [key for key in keys if (await bucket.get(key)).value is not None]
    assert sorted(left) == sorted(f"worker.{hash_secret(one)}" for one in (secrets[0], secrets[-1]))
    assert (await entry(edge, worker.secret)).rotated == 3
    assert [one.worker for one in edge.relays[0].parts.identity.credentials.workers()] == [worker.name]


async def test_a_replica_that_has_seen_nothing_accepts_the_new_secret(edge: Edge) -> None:
    """Its watch may be late: the alias leads it to the entry."""
    worker, secret = await edge.worker(), new()
    await act(edge, worker.name, "rotate")
    await register(edge, worker.secret, secret, 1)
    credentials = edge.relays[1].parts.identity.credentials
    credentials._workers.clear()
    credentials._rotated.clear()
    assert (await show(edge, secret, replica=1)).json["worker"] == worker.name


async def test_a_relay_that_died_between_its_writes_is_repeated(edge: Edge) -> None:
    """It had written the alias, and not the entry."""
    worker, secret = await edge.worker(), new()
    await act(edge, worker.name, "rotate")
    alias = SecretAlias(alias_of=hash_secret(worker.secret)).model_dump_json().encode()
    await Bucket(edge.broker, ACCESS_BUCKET).put(f"worker.{hash_secret(secret)}", alias)
    assert (await show(edge, secret)).code == "unauthenticated", "an alias alone grants nothing"
    assert (await show(edge, worker.secret)).status == 200
    assert (await register(edge, worker.secret, secret, 1)).status == 204
    assert (await show(edge, secret)).status == 200


async def test_only_what_was_asked_for_is_registered(edge: Edge) -> None:
    worker, other, secret = await edge.worker(), await edge.worker(), new()
    assert (await register(edge, worker.secret, secret, 1)).code == "wrong_state"
    await act(edge, worker.name, "rotate")
    assert (await register(edge, worker.secret, secret, 2)).code == "wrong_state"
    assert (await register(edge, worker.secret, other.secret, 1)).code == "wrong_state", "another worker's"
    assert (await register(edge, worker.secret, worker.secret, 1)).code == "wrong_state", "its own"
    assert (await register(edge, worker.secret, secret, 1)).status == 204
    assert (await register(edge, worker.secret, new(), 1)).code == "wrong_state", "a copy of the agent"
    assert (await show(edge, other.secret)).json["worker"] == other.name
    enrolled = await edge.enroll(await edge.token(), secret)
    assert enrolled.code == "enrollment_refused", "the secret is in use"
    assert await act(edge, worker.name, "rotate") == (1, []), "the secret was never used"
    better = new()
    assert (await register(edge, worker.secret, better, 2)).status == 204
    assert (await show(edge, better)).status == 200


async def test_a_revocation_ends_both_secrets(edge: Edge) -> None:
    worker, secret = await edge.worker(), new()
    await act(edge, worker.name, "rotate")
    await register(edge, worker.secret, secret, 1)
    assert await act(edge, worker.name, "revoke") == (1, [])
    for one in (worker.secret, secret):
        for replica in (0, 1):
            await refused(edge, one, replica=replica)
    assert await act(edge, worker.name, "rotate") == (0, ["wrong_state"])


async def _polled(edge: Edge, worker: Worker) -> None:
    body = {"protocol": 1, "incarnation": 1, "seq": 1, "slots": 1, "free": 0, "versions": VERSIONS, "poll_timeout_s": 0}
    reply = await edge.call("POST", routes.POLL, worker.secret, json=body)
    assert reply.status in {200, 204}, reply.body


async def _left(edge: Edge, worker: Worker) -> set[str]:
    """What is stored under the worker's name."""
    places = {
        "last poll": (WORKERS_BUCKET, worker.name),
        "desired": (DESIRED_BUCKET, f"worker.{worker.name}"),
        "name": (ACCESS_BUCKET, f"name.{worker.name}"),
    }
    found = {what: await Bucket(edge.broker, bucket).get(key) for what, (bucket, key) in places.items()}
    return {what for what, stored in found.items() if stored.value is not None}


async def test_a_removed_worker_is_gone_and_stays_refused(edge: Edge) -> None:
    token = await edge.token()
    secret = new()
    name = (await edge.enroll(token, secret)).json["worker"]
    worker = Worker(name, secret)
    await _polled(edge, worker)
    await edge.act_on_worker(name, "set-slots", slots=3)
    assert await act(edge, name, "remove") == (0, ["wrong_state"]), "it is not revoked"
    assert len(await _left(edge, worker)) == 3
    assert await act(edge, name, "revoke") == (1, [])
    assert await act(edge, name, "remove") == (1, [])
    assert not await _left(edge, worker)
    assert edge.relays[0].parts.desired.worker(name) == DesiredWorker()
    for replica in (0, 1):
        await refused(edge, secret, replica=replica)

        async def unlisted(replica: int = replica) -> bool:
            return not (await edge.admin("GET", routes.ADMIN_WORKERS, replica=replica)).json["items"]

        await eventually(unlisted, what="it is in no list")
    assert (await edge.enroll(token, secret)).code == "enrollment_refused", "a repeat brings nobody back"
    assert (await edge.enroll(await edge.token(), secret)).code == "enrollment_refused"
    assert await act(edge, name, "remove") == (0, ["not_found"])


async def test_a_removal_that_was_interrupted_is_completed(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = await edge.worker()
    await _polled(edge, worker)
    assert await act(edge, worker.name, "revoke") == (1, [])

    async def fail(*_: object, **__: object) -> None:
        raise BrokerUnavailable("no answer")

    for step in ("remove", "free_name"):
        with monkeypatch.context() as broken:
            broken.setattr(EnrollmentStore, step, fail)
            order = {"action": {"do": "remove"}, "workers": [worker.name], "reason": "a test"}
            assert (await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, order)).code == "broker_unavailable"
        assert "name" in await _left(edge, worker)
    assert (await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"] == []
    await act(edge, worker.name, "remove")
    assert not await _left(edge, worker)
