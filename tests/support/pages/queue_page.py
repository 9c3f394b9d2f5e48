"""Carries out the pages on the queue without Airflow: a standalone relay, each command and each program as written."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from local.processes.child import Child, clean_environment, stop_all
from local.system.paths import PROGRAMS
from local.system.relay import Relay
from support.pages.pages import ROOT, Page

Act = Callable[["Scene", str], Coroutine[Any, Any, None]]

needs_programs = pytest.mark.skipif(
    "CI" not in os.environ and not all(map(shutil.which, ("curl", "jq", "flock"))), reason="needs curl, jq and flock"
)
"""Marks tests of the pages and of the shell consumer."""


class Scene:
    """A folder with the files of the pages, and the processes that run until they are stopped."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "here"
        self._runtime = Path(mkdtemp(prefix="edge-queue-"))
        self._children: list[Child] = []
        self._consumer: Child | None = None
        self._places = {
            "/srv/edge-relay": str(directory / "data"),
            "docs/howto/consumer.sh": str(ROOT / "docs/howto/consumer.sh"),
        }
        self._exports: dict[str, str] = {"XDG_RUNTIME_DIR": str(self._runtime)}
        self._relay = Relay(directory)

    def prepare(self) -> None:
        """Write the programs of the pages: the first line of each block names its file."""
        self._directory.mkdir()
        for page in (QUEUE, RECIPES):
            for block in (*page.blocks("python"), *page.blocks("bash")):
                name = re.match(r"# (\S+)\n", block)
                assert name is not None
                (self._directory / name[1]).write_text(block)

    async def stop(self) -> None:
        """The relay last."""
        await stop_all([*self._children, self._relay.child])
        shutil.rmtree(self._runtime)

    async def standalone(self, command: str) -> None:
        """With free ports instead of the default ones."""
        assert command == "edge-relay standalone --data-dir /srv/edge-relay"
        facts = await self._relay.start()
        self._places["https://127.0.0.1:8443"] = facts.url

    async def export(self, command: str) -> None:
        """For all later commands."""
        name, _, value = self._placed(command).removeprefix("export ").partition("=")
        self._exports[name] = value.strip("'")

    async def agent(self, command: str) -> None:
        """A worker that runs until the end."""
        await self._launch(command)

    async def consumer(self, command: str) -> None:
        """A consumer of `orders`, in the place of the one before."""
        if self._consumer is not None:
            await self._consumer.stop(grace_s=15)
        self._consumer = await self._launch(command)

    async def output(self, command: str) -> str:
        """What a command prints; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", self._placed(command)),
            cwd=self._directory,
            env=self._environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        assert process.returncode == 0, f"{command}\n{output.decode()}\n{self._logs()}"
        return output.decode()

    async def _launch(self, command: str) -> Child:
        name = f"child-{len(self._children)}"
        log = self._directory / f"{name}.log"
        argv = ["/bin/sh", "-c", f"exec {self._placed(command)}"]
        child = Child(name, argv, log=log, cwd=self._directory, env=self._environment())
        self._children.append(child)
        await child.start()
        return child

    def _placed(self, command: str) -> str:
        for place, here in self._places.items():
            command = command.replace(place, here)
        return command

    def _environment(self) -> dict[str, str]:
        return clean_environment({**self._exports, "PATH": f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin"})

    def _logs(self) -> str:
        return "\n".join(log.read_text()[-2000:] for log in self._directory.glob("child-*.log"))


@dataclass(frozen=True)
class Prints:
    """An act: the command prints this, among other things."""

    text: str = ""

    async def __call__(self, scene: Scene, command: str) -> None:
        output = await scene.output(command)
        assert self.text in output, f"{command}\n{output}"


@asynccontextmanager
async def queue_scene(directory: Path) -> AsyncIterator[Scene]:
    """Nothing runs yet."""
    scene = Scene(directory)
    try:
        scene.prepare()
        yield scene
    finally:
        await scene.stop()


_D = "--data-dir /srv/edge-relay"
_CURL = "curl -sS --cacert $RELAY_CA_FILE -H @producer.header"
QUEUE: Page[Act] = Page(
    "docs/howto/queue-without-airflow.md",
    {
        f"edge-relay standalone {_D}": Scene.standalone,
        "umask 077": Prints(),
        "edge-relay tokens create --name shop --role producer --queues plant-7,plant-8,orders --reason 'orders of the "
        f"shop' {_D} | head -1 > producer.token": Prints(),
        f"edge-relay enroll-token create --queues plant-7 --site plant-7 {_D} | head -1 > worker.token": Prints(),
        f"edge-relay enroll-token create --queues orders --site plant-7 --uses 3 {_D} | head -1 > consumer.token": (
            Prints()
        ),
        "export EDGE_WORKER_CA_FILE=/srv/edge-relay/tls/ca.pem": Scene.export,
        "export EDGE_WORKER_COMMANDS='uname,sh'": Scene.export,
        "edge-worker enroll --relay https://127.0.0.1:8443 --token-file worker.token --state-dir worker": (
            Prints("Enrolled as plant-7-")
        ),
        "edge-worker run --state-dir worker": Scene.agent,
        "export RELAY_URL=https://127.0.0.1:8443": Scene.export,
        "export RELAY_CA_FILE=/srv/edge-relay/tls/ca.pem": Scene.export,
        "export RELAY_ACCESS_TOKEN_FILE=producer.token": Scene.export,
        "edge-relay submit --queue plant-7 -- uname -s": Prints("Linux"),
        "edge-relay submit --queue plant-7 --on-lost requeue --timeout 5m --json -- sh -c 'echo 42 > "
        '"$EDGE_RELAY_RESULT"\'': Prints('"verdict": "succeeded"'),
        'seq 20 | jq -c \'{key: "count-\\(.)", command: {argv: ["sh", "-c", "echo \\(.)"]}}\' > batch': Prints(),
        "edge-relay submit --queue plant-7 --batch batch": Prints("succeeded"),
        "sed 's/^/Authorization: Bearer /' producer.token > producer.header": Prints(),
        f'{_CURL} -H \'Content-Type: application/json\' $RELAY_URL/v1/queues/orders/jobs -d \'{{"key": "order-7", '
        '"payload": {"text": "7"}, "labels": {"customer": "c-1"}}\' > submitted': Prints(),
        f"{_CURL} $RELAY_URL/v1/queues/orders": Prints('"waiting":1'),
        "export EDGE_WORKER_RELAY_URL=https://127.0.0.1:8443": Scene.export,
        "python consumer.py": Scene.consumer,
        f'{_CURL} "$RELAY_URL/v1/jobs/$(jq -r .job submitted)?wait=30"': Prints("order 7 is on its way"),
        "python producer.py": Prints("succeeded order 8 is on its way"),
        "mkdir -p shell && cp consumer.token shell/token": Prints(),
        "export CURL_CA_BUNDLE=/srv/edge-relay/tls/ca.pem": Scene.export,
        "docs/howto/consumer.sh https://127.0.0.1:8443 shell sh -c 'tr a-z A-Z > \"$RESULT\"'": Scene.consumer,
        "edge-relay submit --queue orders --payload producer.py --json": Prints('"verdict": "succeeded"'),
        f"edge-relay jobs list {_D}": Prints(),
        f"edge-relay queues pause orders --reason 'the press is cleaned' {_D}": Prints(),
        f"edge-relay queues resume orders --reason 'the press is clean' {_D}": Prints(),
    },
    {"pip install './schemas[broker]' './relay[server]' ./edge_worker": "the quickstart's test installs the same"},
)
RECIPES: Page[Act] = Page(
    "docs/howto/queue-recipes.md",
    {
        "python tasks.py": Scene.consumer,
        "python call.py": Prints("5\nfailed: remove_everything is not allowed here"),
        f"edge-relay enroll-token create --queues plant-8 --site plant-8 {_D} | head -1 > worker.token": Prints(),
        "edge-worker enroll --relay https://127.0.0.1:8443 --token-file worker.token --state-dir worker-8": (
            Prints("Enrolled as plant-8-")
        ),
        "edge-worker run --state-dir worker-8": Scene.agent,
        "sh deploy.sh 'echo deployed as $EDGE_RELAY_WORKER'": Prints("plant-8: deployed as plant-8-"),
        "sh deploy.sh 'echo trying; test $EDGE_RELAY_SITE = plant-7' || echo rolled back": (
            Prints("failed at: plant-8\nrolled back")
        ),
    },
)
