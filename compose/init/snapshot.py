"""Backs JetStream up to standard output and restores it from standard input, while NATS runs.

    snapshot.py save > backup.tar       all streams and buckets, consumers included
    snapshot.py restore < backup.tar    in place of those that are there

Works from one server to three and back: each stream is restored with as many copies as this installation has. There is
one snapshot for each stream, one after the other; the executor and the keeper repair differences between snapshots.
"""

import asyncio
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from edge_broker.permissions import ADMIN
from edge_service.private_files import read_secret

ADMIN_FILES = Path("/volumes/admin")
CHUNK_BYTES = 256 * 1024
WAIT_S = 60
NOT_FOUND = 10059


class Refused(Exception):
    """NATS refused a call; the text is the reason."""


async def main(words: list[str]) -> int:
    """Run the command; returns the exit status."""
    if words not in (["save"], ["restore"]):
        print(__doc__, file=sys.stderr)
        return 2
    client = await nats.connect(
        os.environ["NATS_URL"],
        user=ADMIN,
        password=read_secret(ADMIN_FILES / "admin.password"),
        inbox_prefix=f"_INBOX_{ADMIN}".encode(),
    )
    try:
        await (_save(client) if words == ["save"] else _restore(client))
    except Refused as refused:
        print(f"NATS refused: {refused}", file=sys.stderr)
        return 1
    finally:
        await client.close()
    return 0


async def _save(client: Client) -> None:
    names = (await _api(client, "STREAM.NAMES", {}))["streams"] or []
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for name in sorted(names):
            size = await _save_stream(client, name, archive)
            print(f"{name}: {size} bytes", file=sys.stderr)


async def _save_stream(client: Client, name: str, archive: tarfile.TarFile) -> int:
    """The stream's configuration, then its chunks: members of the archive are NAME/config, NAME/1, NAME/2 and so on."""
    inbox = client.new_inbox()
    chunks = await client.subscribe(inbox)
    order = {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES}
    answer = await _api(client, f"STREAM.SNAPSHOT.{name}", order)
    _add(archive, f"{name}/config", json.dumps({"config": answer["config"], "state": answer["state"]}).encode())
    number, size = 0, 0
    while True:
        message = await chunks.next_msg(WAIT_S)
        if not message.data:
            break
        number, size = number + 1, size + len(message.data)
        _add(archive, f"{name}/{number}", message.data)
        # The server waits for this answer after some chunks.
        await message.respond(b"")
    if (status := (message.headers or {}).get("Status", "204")) != "204":
        raise Refused(f"{name}: the snapshot ended with status {status}")
    await chunks.unsubscribe()
    return size


async def _restore(client: Client) -> None:
    replicas = int((ADMIN_FILES / "replicas").read_text())
    target = ""
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for path, data in _members(archive):
            name, _, part = path.partition("/")
            if part == "config":
                await _end(client, target)
                target = await _begin(client, name, json.loads(data), replicas)
                print(f"{name}: restoring", file=sys.stderr)
            else:
                await _send(client, target, data)
    await _end(client, target)


async def _begin(client: Client, name: str, saved: dict[str, Any], replicas: int) -> str:
    """Delete the stream and begin its restore; returns the subject to which its chunks are sent."""
    try:
        await _api(client, f"STREAM.DELETE.{name}", {})
    except Refused as refused:
        if str(NOT_FOUND) not in str(refused):
            raise
    saved["config"]["num_replicas"] = replicas
    answer = await _api(client, f"STREAM.RESTORE.{name}", saved)
    return str(answer["deliver_subject"])


async def _send(client: Client, target: str, data: bytes) -> None:
    answer = await client.request(target, data, timeout=WAIT_S)
    if answer.data and (error := json.loads(answer.data).get("error")):
        raise Refused(f"{error['description']} ({error.get('err_code')})")


async def _end(client: Client, target: str) -> None:
    """End a restore: all chunks have been sent. The stream exists when this returns."""
    if target:
        await _send(client, target, b"")


async def _api(client: Client, call: str, order: dict[str, Any]) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{call}", json.dumps(order).encode(), timeout=WAIT_S)
    result: dict[str, Any] = json.loads(answer.data)
    if error := result.get("error"):
        raise Refused(f"{call}: {error['description']} ({error.get('err_code')})")
    return result


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        file = archive.extractfile(member)
        if file is not None:
            yield member.name, file.read()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
