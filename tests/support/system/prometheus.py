"""Prometheus and promtool: where they are, and a server on loopback for one test."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

# PyYAML ships no types.
import yaml  # type: ignore[import-untyped]

from support.nats.server import eventually, free_port

ROOT = Path(__file__).parents[3]
RULES = ROOT / "compose" / "prometheus" / "rules"
SCRAPE_S = 1


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; a test that needs it is skipped where there is none, but never in CI."""
    found = shutil.which(name) or shutil.which(name, path=str(ROOT / ".venv" / "prometheus"))
    if found is None:
        reason = f"no {name} here: install Prometheus, or run .ci/prometheus"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@dataclass(frozen=True)
class Prometheus:
    """A running server.

    Attributes:
        url: Of its web interface and API.
    """

    url: str
    session: aiohttp.ClientSession

    async def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API.

        Raises:
            AssertionError: The server refused, such as an expression that it can't parse; its words are the text.
        """
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", f"{parameters}: {body.get('error')}"
        return body["data"]

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        data = await self.ask("query", query=expr)
        assert data["resultType"] == "vector", f"{expr}: {data['resultType']}"
        result: list[dict[str, Any]] = data["result"]
        return result


@asynccontextmanager
async def running_prometheus(
    directory: Path, config: Mapping[str, Any], targets: Mapping[str, Sequence[str]]
) -> AsyncIterator[Prometheus]:
    """A server with this configuration, but other targets, on a free port; killed at the end.

    Args:
        directory: For its data; made.
        config: As in `prometheus.yml`. Scrapes and rules are made every second.
        targets: By the name of the scrape job: host and port of each target on loopback.
    """
    await asyncio.to_thread(directory.mkdir)
    jobs = {str(job["job_name"]): job for job in config["scrape_configs"]}
    scrapes = [
        {name: value for name, value in jobs[job].items() if not name.endswith("_sd_configs")}
        | {"static_configs": [{"targets": list(addresses)}]}
        for job, addresses in targets.items()
    ]
    interval = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s", "evaluation_interval": "1s"}
    own = {
        "global": {**config.get("global", {}), **interval},
        "rule_files": [f"{RULES}/*.yml"],
        "scrape_configs": [
            {name: value for name, value in scrape.items() if name not in interval} for scrape in scrapes
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(own))
    url = f"http://127.0.0.1:{(port := free_port())}"
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:

            async def ready() -> bool:
                assert process.returncode is None, (directory / "prometheus.log").read_text()
                try:
                    async with session.get(f"{url}/-/ready") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(ready, timeout_s=30, what="Prometheus is ready")
            yield Prometheus(url, session)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
