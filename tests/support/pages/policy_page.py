"""Carries out the page on policies: each command as written, with Airflow's own parser, against a real NATS."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from contextlib import chdir
from pathlib import Path
from typing import TypeAlias

import pytest

from support.pages.pages import Page

QUEUE, REASON = "plant", "moved to its own Airflow"
_SET = f"airflow edge-relay policy set --queue {QUEUE}"


class Scene:
    """A folder, and NATS with the accesses of a queue.

    Args:
        folder: In which the commands are run.
        capture: Reads what they print.
    """

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    async def run(self, command: str) -> str:
        """What a command prints, also to standard error. It fails if its exit status is not 0."""
        line, _, file = command.partition(" > ")
        status, printed, errors = await self.status(line)
        assert status == 0, errors
        if file:
            await asyncio.to_thread((self.folder / file).write_text, printed)
        return printed

    async def status(self, command: str) -> tuple[int, str, str]:
        """Exit status and output of a command."""
        from airflow.cli.cli_parser import get_parser

        args = get_parser().parse_args(shlex.split(command)[1:])
        self._capture.readouterr()
        try:
            await asyncio.to_thread(self._in_folder, args.func, args)
            status = 0
        except SystemExit as end:
            status = int(str(end.code))
        return (status, *self._capture.readouterr())

    def _in_folder(self, function: Callable[[object], None], args: object) -> None:
        with chdir(self.folder):
            function(args)


async def _shows(scene: Scene, command: str, *texts: str) -> None:
    printed = await scene.run(command)
    assert all(text in printed for text in texts), printed


def _showing(*texts: str) -> "Act":
    async def act(scene: Scene, command: str) -> None:
        await _shows(scene, command, *texts)

    return act


async def _suggests(scene: Scene, command: str) -> None:
    """The file is the page's own example, below its comments."""
    await scene.run(command)
    text = await asyncio.to_thread((scene.folder / "plant.toml").read_text)
    [example] = POLICIES.blocks("toml")
    assert [line for line in text.splitlines() if not line.startswith("#")] == example.splitlines()


Act: TypeAlias = Callable[[Scene, str], Awaitable[None]]
POLICIES: Page[Act] = Page(
    "docs/howto/need-to-know.md",
    {
        f"airflow edge-relay policy accesses --queue {QUEUE} --days 30": _showing("erp_main", "pump_daily"),
        f"airflow edge-relay policy suggest --queue {QUEUE} --days 30 > plant.toml": _suggests,
        f"{_SET} --file plant.toml --dry-run": _showing("not changed", "erp_main"),
        f'{_SET} --file plant.toml --reason "need to know"': _showing('mode = "log"'),
        f"airflow edge-relay policy accesses --queue {QUEUE}": _showing("WOULD BE DENIED"),
        f"{_SET} --allow connection=s3_archive": _showing("erp_main", "s3_archive"),
        f'{_SET} --mode enforce --reason "nothing was missing for a month"': _showing('mode = "enforce"', "s3_archive"),
        f"airflow edge-relay policy show --queue {QUEUE}": _showing("nothing was missing", 'mode = "enforce"'),
        f'{_SET} --mode log --reason "a DAG lacks a connection"': _showing('mode = "log"'),
        f'airflow edge-relay policy remove --queue {QUEUE} --reason "{REASON}"': _showing("has no policy"),
    },
)
