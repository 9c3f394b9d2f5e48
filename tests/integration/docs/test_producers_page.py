"""The examples of the page about the producers' API, executed with `curl` against a real relay."""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_schemas.admin.access import Role
from support.relay.agents import agent
from support.relay.edge import running_edge
from support.relay.producers import publish_message

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "producers-api.md"
OTHERWISE = {"edge-relay tokens create"}
"""Commands that tests of the command line execute."""


def examples() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [block for block in blocks if not any(block.startswith(one) for one in OTHERWISE)]


async def run(command: str, folder: Path, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", command),
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples are calls of curl")
async def test_the_examples_do_what_the_page_says(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        token = await edge.access_token_for("shop", role=Role.PRODUCER, queues=["orders"])
        (tmp_path / "producer.header").write_text(f"Authorization: Bearer {token}\n")
        known = {"RELAY": edge.relays[0].workers_url, "CURL_CA_BUNDLE": str(edge.ca), "JOB": ""}
        submit, batch, status, why, log, listing, figures, cancel = examples()

        async def answer(command: str) -> Any:
            return json.loads(await run(command, tmp_path, **known))

        submitted = await answer(submit)
        assert submitted["is_new"]
        assert not (await answer(submit))["is_new"]
        known["JOB"] = submitted["job"]
        reused, command = (await answer(batch))["jobs"]
        assert reused["code"] == "key_reused"
        assert command["is_new"]

        assert (await answer(why))["causes"][0]["code"] == "no_worker"

        consumer = await agent(edge, queue="orders")
        await publish_message(edge, known["JOB"])
        [grant] = await consumer.grants(kinds=["payload"])
        assert json.loads(grant["job"]["work"]["payload"]["text"]) == {"order": 7}
        await consumer.start(grant)
        sent = {"Content-Type": "application/octet-stream"}
        path = f"/v1/jobs/{known['JOB']}/log?offset=0"
        await edge.call("PUT", path, consumer.secret, body=b"processing\n", headers=sent)
        shown = await run(log, tmp_path, **known)
        assert "Edge-Log-Offset: 0" in shown
        assert "Edge-Job-State: running" in shown
        assert shown.endswith("\r\n\r\nprocessing\n")
        waiting = asyncio.create_task(answer(status))
        await consumer.finish(known["JOB"], exit_code=0, result={"text": "done"}, receipt=grant["receipt"])
        ended = await waiting
        assert (ended["state"], ended["outcome"]["result"]["text"]) == ("ended", "done")

        [listed] = (await answer(listing))["jobs"]
        assert listed["job"] == known["JOB"]
        assert "result" not in listed["outcome"]
        assert (await answer(figures))["waiting"] == 1
        known["JOB"] = command["job"]
        assert (await answer(cancel))["outcome"]["verdict"] == "cancelled"
