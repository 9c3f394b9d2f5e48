"""How long all workers need to come back after a relay was killed and started again."""

import asyncio
import time
from pathlib import Path

from bench.figures import Row, cpu_seconds
from bench.scale.stand import manned_stand
from support.nats.server import eventually

WORKERS = 1000
JOBS = 5
DOWN_S = 5.0
POLL_TIMEOUT_S = 50.0


async def measure(directory: Path) -> list[Row]:
    """Every worker has jobs, so it retries more often than an idle one; it needs a new connection with TLS."""
    manned = manned_stand(directory, workers=WORKERS, jobs=JOBS, poll_timeout_s=POLL_TIMEOUT_S)
    async with manned as (found, _, fleet):
        await found.relay.kill()
        await asyncio.sleep(DOWN_S)
        began = time.time()
        await found.relay.start()
        ready = time.time()
        await eventually(lambda: len(fleet.back) >= WORKERS, timeout_s=120, what="all workers are back")
        used = cpu_seconds(found.pid)
        back = sorted(at - ready for at in fleet.back[:WORKERS])
    what = f"relay killed for {DOWN_S:g} s, {WORKERS} workers with {JOBS} running jobs each"
    return [
        (f"{what}: relay ready → poll answered, median / last", f"{back[len(back) // 2]:.1f} / {back[-1]:.1f} s"),
        ("relay: start → ready", f"{ready - began:.1f} s"),
        ("relay: CPU from its start until the last worker is back", f"{used:.1f} s"),
        ("polls that failed meanwhile, for each worker", f"{fleet.failures / WORKERS:.1f}"),
    ]
