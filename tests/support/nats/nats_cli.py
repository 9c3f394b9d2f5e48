"""What the `nats` command line sends, as a nats-server traced it: natscli at commit c778a5c with jsm.go at caea3c5.

The program itself is in no package that a test could install. Requests that it makes more than once are made once here.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nats
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from edge_relay.standalone.nats_server import NatsServer
from support.nats.server import PASSWORDS, eventually

_S = 1_000_000_000
_NAMES = (f"cli{number}" for number in itertools.count())


@dataclass(frozen=True)
class Backup:
    """A stream as `stream backup` writes it into a folder."""

    told: dict[str, Any]
    data: bytes


class Cli:
    """A connection as the command line opens it: its inboxes begin with `_INBOX`."""

    def __init__(self, client: Client, errors: list[str]) -> None:
        self.client = client
        self.errors = errors

    async def api(self, call: str, body: object = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """One request to JetStream; an error in the answer fails the test."""
        data = b"" if body is None else orjson.dumps(body)
        answer = await self.client.request(f"$JS.API.{call}", data, timeout=5, headers=headers)
        found: dict[str, Any] = orjson.loads(answer.data)
        assert "error" not in found, f"{call}: {found['error']}"
        return found

    async def stream(self, name: str, **body: object) -> dict[str, Any]:
        """`Manager.LoadStream` comes first nearly everywhere; then what the command wants of it (jsm.go streams.go)."""
        await self.api(f"STREAM.INFO.{name}")
        return await self.api(f"STREAM.INFO.{name}", body or None)

    async def subjects(self, stream: str, pattern: str = ">") -> dict[str, int]:
        """`stream subjects` (cli/stream_command.go)."""
        info = await self.stream(stream, offset=0, subjects_filter=pattern)
        found: dict[str, int] = info["state"]["subjects"]
        return found

    async def last_for(self, stream: str, subject: str) -> dict[str, Any]:
        """`stream get --last-for` (cli/stream_command.go)."""
        await self.api(f"STREAM.INFO.{stream}")
        message: dict[str, Any] = (await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
        return message

    async def kv_get(self, bucket: str, key: str) -> Any:
        """`kv get --raw` (cli/kv_command.go, by nats.go)."""
        await self.api(f"STREAM.INFO.KV_{bucket}")
        answer = await self.client.request(f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}", timeout=5)
        assert "Status" not in (answer.headers or {}), answer.headers
        return orjson.loads(answer.data)

    async def read(self, stream: str, pattern: str, **start: object) -> list[bytes]:
        """`sub --stream --terminate-at-end` (cli/sub_command.go): an ephemeral pull consumer without acks."""
        await self.api(f"STREAM.INFO.{stream}")
        name = next(_NAMES)
        config = {
            **start,
            "ack_policy": "none",
            "filter_subject": pattern,
            "replay_policy": "instant",
            "num_replicas": 0,
        }
        order = {"stream_name": stream, "config": config, "action": "create"}
        made = await self.api(f"CONSUMER.CREATE.{stream}.{name}.{pattern}", order)
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        pull = {"expires": 30 * _S, "batch": 500, "idle_heartbeat": 15 * _S}
        await self.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", orjson.dumps(pull), reply=inbox)
        found = [(await subscription.next_msg(timeout=5)).data for _ in range(made["num_pending"])]
        await subscription.unsubscribe()
        return found

    @asynccontextmanager
    async def watched(self, bucket: str, policy: str, **config: object) -> AsyncIterator[list[Msg]]:
        """`kv watch` and `kv ls` (cli/kv_command.go, by nats.go): an ordered push consumer, deleted at the end."""
        stream, pattern, inbox, name = f"KV_{bucket}", f"$KV.{bucket}.>", self.client.new_inbox(), next(_NAMES)
        await self.api(f"STREAM.INFO.{stream}")
        found: list[Msg] = []

        async def take(message: Msg) -> None:
            if message.headers is None or "Status" not in message.headers:
                found.append(message)

        subscription = await self.client.subscribe(inbox, cb=take)
        order = {
            "deliver_policy": policy,
            "ack_policy": "none",
            "ack_wait": 79200 * _S,
            "max_deliver": 1,
            "filter_subject": pattern,
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": 5 * _S,
            "deliver_subject": inbox,
            "num_replicas": 1,
            "mem_storage": True,
            **config,
        }
        call = f"CONSUMER.CREATE.{stream}.{name}.{pattern}"
        made = await self.api(call, {"stream_name": stream, "config": order})
        await eventually(lambda: len(found) >= made["num_pending"], what="what there is of the bucket")
        yield found
        await subscription.unsubscribe()
        await self.api(f"CONSUMER.DELETE.{stream}.{name}")

    async def pages(self, stream: str) -> list[bytes]:
        """`stream view` (jsm.go stream_pager.go): a durable consumer for an hour, each message acked, then deleted."""
        await self.api(f"STREAM.INFO.{stream}")
        name, inbox = f"stream_pager_{next(_NAMES)}", self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        config = {
            "description": "JSM Stream Pager",
            "ack_policy": "explicit",
            "ack_wait": 30 * _S,
            "deliver_policy": "all",
            "durable_name": name,
            "name": name,
            "filter_subject": ">",
            "replay_policy": "instant",
            "inactive_threshold": 3600 * _S,
            "num_replicas": 0,
        }
        made = await self.api(f"CONSUMER.CREATE.{stream}.{name}.>", {"stream_name": stream, "config": config})
        pull = orjson.dumps({"batch": 25, "no_wait": True})
        await self.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", pull, reply=inbox)
        found = []
        for _ in range(made["num_pending"]):
            message = await subscription.next_msg(timeout=5)
            await self.client.publish(message.reply, b"+ACK")
            found.append(message.data)
        await subscription.unsubscribe()
        await self.api(f"CONSUMER.DELETE.{stream}.{name}")
        return found

    async def backup(self, stream: str) -> Backup:
        """`stream backup` (jsm.go snapshots.go): chunks come to an inbox; those that ask for it are acked."""
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        told = await self.api(f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "chunk_size": 131072})
        data = b""
        while chunk := (message := await subscription.next_msg(timeout=5)).data:
            data += chunk
            if message.reply:
                await self.client.publish(message.reply)
        await subscription.unsubscribe()
        return Backup(told, data)

    async def restore(self, stream: str, backup: Backup) -> None:
        """`stream restore` (jsm.go snapshots.go)."""
        body = {"config": backup.told["config"], "state": backup.told["state"]}
        where = (await self.api(f"STREAM.RESTORE.{stream}", body))["deliver_subject"]
        for chunk in (backup.data, b""):
            answer = orjson.loads((await self.client.request(where, chunk, timeout=10)).data or b"{}")
            assert "error" not in answer, answer

    async def refused(self) -> set[str]:
        """The subjects that the server refused so far, in lower case, as nats-py reports them."""
        await self.client.flush()
        await asyncio.sleep(0)  # errors are reported in another task
        return {error.partition('"')[2].rpartition('"')[0] for error in self.errors}


@asynccontextmanager
async def command_line(server: NatsServer, user: str) -> AsyncIterator[Cli]:
    """As `--user` with its password."""
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    client = await nats.connect(server.url, user=user, password=PASSWORDS[user], error_cb=note)
    try:
        yield Cli(client, errors)
    finally:
        await client.close()
