"""What an agent costs while it has nothing to do: start and memory."""

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

from bench.figures import Row, cpu_seconds, rss_bytes
from support.nats.server import eventually
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay

STARTS = 5
IDLE_S = 10.0


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The section of the page."""
    relay = FakeRelay()
    await relay.start()
    try:
        starts = [await _start(relay, directory / str(n)) for n in range(STARTS)]
        idle = await _idle(relay, directory / "idle")
    finally:
        await relay.stop()
    return "Worker: start and idle", [
        (f"`edge-worker run`, process start → first poll, median of {STARTS}", f"{statistics.median(starts):.2f} s"),
        *idle,
    ]


async def _start(relay: FakeRelay, directory: Path) -> float:
    environment = await _enrolled(relay, directory)
    polls, began = len(relay.polls), time.perf_counter()
    process = await _run(environment)
    await eventually(lambda: len(relay.polls) > polls)
    seconds = time.perf_counter() - began
    await _end(process)
    return seconds


async def _idle(relay: FakeRelay, directory: Path) -> list[Row]:
    environment = await _enrolled(relay, directory)
    process = await _run(environment)
    await asyncio.sleep(IDLE_S)
    before = cpu_seconds(process.pid)
    await asyncio.sleep(IDLE_S)
    used = cpu_seconds(process.pid) - before
    rss = rss_bytes(process.pid)
    await _end(process)
    return [
        ("idle agent, resident memory", f"{rss / 1e6:.1f} MB"),
        (f"idle agent, CPU over {IDLE_S:g} s", f"{used / IDLE_S:.2%} of a core"),
    ]


async def _enrolled(relay: FakeRelay, directory: Path) -> dict[str, str]:
    await asyncio.to_thread(directory.mkdir)
    token = directory / "token"
    await asyncio.to_thread(token.write_text, ENROLL_TOKEN)
    environment = {
        "PATH": os.environ["PATH"],
        "EDGE_WORKER_STATE_DIR": str(directory / "state"),
        "EDGE_WORKER_BUNDLES": json.dumps({"dags-folder": str(directory)}),
    }
    enroll = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_worker", "enroll", "--relay", relay.url, "--token-file", str(token)),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await enroll.wait() == 0
    return environment


async def _run(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_worker", "run"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.wait()
