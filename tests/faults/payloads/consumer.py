"""A consumer that writes down what its handlers do: a line of the ledger for each event, in one write.

    consumer.py STATE_DIR LEDGER SLOTS

A payload says how many ticks its handler takes, and how many of its attempts ask for another one.
"""

import asyncio
import json
import os
import sys
import time

from edge_worker.client import AsyncConsumer, PayloadJob, Retry

TICK_S = 0.05


async def main(state_dir: str, ledger: str, slots: int) -> None:
    """Consume until killed."""
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(job: PayloadJob, event: str) -> None:
        where = {"dag": "payloads", "run": job.queue, "task": job.id, "map_index": -1}
        line = {**where, "try": job.attempt, "pid": os.getpid(), "event": event, "time": time.time()}
        os.write(file, json.dumps(line).encode() + b"\n")

    async def handle(job: PayloadJob) -> str:
        work = json.loads(job.text)
        note(job, "begin")
        for _ in range(work["ticks"]):
            await asyncio.sleep(TICK_S)
            note(job, "alive")
        if job.attempt <= work["retries"]:
            note(job, "raise")
            raise Retry
        note(job, "end")
        return str(job.attempt)

    async with AsyncConsumer(state_dir=state_dir) as consumer:
        await consumer.run(handle, slots=slots)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
