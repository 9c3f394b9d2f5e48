"""What a keeper tells of the centre, asked by a relay over a real socket, and how long the relay believes it."""

import asyncio
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import aiohttp
import airflow
import pytest
from aiohttp import web

from edge_bridge.keeper.gate.centre import CentreView
from edge_bridge.keeper.gate.passthrough import PassThrough
from edge_bridge.keeper.gate.server import build_app
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.settings import keeper_settings
from edge_bridge.settings import SettingsError
from edge_relay.gate.centre import FRESH_FOR_S, RETRY_AFTER_S, Centre
from edge_relay.gate.client import GateClient
from edge_schemas.wire.routes import GATE_CENTRE
from edge_service.body_memory import BodyMemory
from support.airflow.keeper import KEY
from support.nats.server import free_port
from support.signing.keys import UNSIGNED

LOCK = "apache-airflow==3.3.2 --hash=sha256:" + "0" * 64 + "\n"


@dataclass
class Asked:
    """A relay's view of the centre, its clock, and how often the keeper was asked."""

    centre: Centre
    url: str
    calls: list[str]
    now: float = 1000.0


@asynccontextmanager
async def asking(lock: Path, *, key: bytes = KEY, url: str | None = None) -> AsyncIterator[Asked]:
    """A gate that tells of the centre only, and a relay that asks it, with this key or at another address."""
    no_jobs = cast("PassThrough", None)
    calls: list[str] = []

    async def count(request: web.Request, _response: web.StreamResponse) -> None:
        calls.append(request.path)

    app = build_app(
        KEY,
        no_jobs,
        CentreView(lock, UNSIGNED),
        dict,
        metrics=KeeperMetrics(),
        memory=BodyMemory(1 << 20, 1 << 20, lambda _: None),
    )
    app.on_response_prepare.append(count)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    mine = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with GateClient((url or mine,), key) as gate:
            asked = Asked(Centre(gate, clock=lambda: asked.now), mine, calls)
            yield asked
    finally:
        await runner.cleanup()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "runtime.lock"
    path.write_text(LOCK)
    return path


def replace_lock(lock: Path, text: str | None) -> None:
    """As an operator does."""
    lock.unlink() if text is None else lock.write_text(text)


async def test_it_tells_versions_and_lock(lock: Path) -> None:
    async with asking(lock) as asked:
        facts = await asked.centre.facts()
    assert facts is not None
    assert (facts.airflow_version, facts.python_version) == (airflow.__version__, platform.python_version())
    assert facts.runtime_lock == LOCK


async def test_many_who_ask_make_one_call_a_minute(lock: Path) -> None:
    """A site of a hundred workers that enrol at once must not become a hundred calls to a keeper."""
    async with asking(lock) as asked:
        first = await asyncio.gather(*(asked.centre.facts() for _ in range(20)))
        replace_lock(lock, "apache-airflow==3.3.3\n")
        asked.now += FRESH_FOR_S - 1
        assert await asked.centre.facts() == first[0]
        assert len(asked.calls) == 1
        asked.now += 2
        newer = await asked.centre.facts()
        assert newer is not None
        assert newer.runtime_lock == "apache-airflow==3.3.3\n"


async def test_a_lock_that_is_gone_is_no_licence_to_install_anything(lock: Path) -> None:
    """The keeper does not answer without it; and that it could not is soon forgotten."""
    async with asking(lock) as asked:
        replace_lock(lock, None)
        assert await asked.centre.facts() is None
        replace_lock(lock, LOCK)
        assert await asked.centre.facts() is None
        asked.now += RETRY_AFTER_S
        assert await asked.centre.facts() is not None


async def test_nobody_answers(lock: Path) -> None:
    async with asking(lock, url=f"http://127.0.0.1:{free_port()}") as asked:
        assert await asked.centre.facts() is None
    assert await Centre(None).facts() is None


async def test_only_a_relay_is_told(lock: Path) -> None:
    async with asking(lock, key=b"another secret" * 4) as asked, aiohttp.ClientSession() as session:
        assert await asked.centre.facts() is None
        async with session.get(asked.url + GATE_CENTRE) as reply:
            assert reply.status == 401
            assert "Edge-Signature" not in reply.headers
            assert "airflow" not in await reply.text()


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"\xff\xfe", "decode"), (b" \n", "is empty")])
def test_a_keeper_does_not_start_with_a_lock_that_it_cannot_tell(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "runtime.lock"
    if content is not None:
        path.write_bytes(content)

    class Conf:
        """Airflow's configuration with nothing but these options."""

        def get(self, section: str, key: str, **_: object) -> str | None:
            known = {"nats_urls": "nats://one", "keeper_password": "x", "gate_secret": "s" * 40, "gate_port": "1"}
            return (known | {"runtime_lock": str(path), "task_instance_heartbeat_timeout": "300"}).get(key)

    with pytest.raises(SettingsError, match=rf"runtime_lock: .*{says}"):
        keeper_settings(Conf())
