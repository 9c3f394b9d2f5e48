"""`edge-worker run` with `FakeRuntime` in place of the task host: the agent as a process of its own."""

import asyncio
import sys
from pathlib import Path

from edge_worker.agent.worker import Worker
from edge_worker.log import setup_logging
from edge_worker.settings_sources import load_settings
from edge_worker.state.runtime_dir import SOCKET_NAME
from edge_worker.state.state import StateDir

sys.path.insert(0, str(Path(__file__).parents[2]))
from support.worker.fake_runtime import FakeRuntime


async def _run() -> int:
    settings = load_settings()
    state = StateDir(settings.state_dir)
    state.prepare()
    with state.locked():
        identity = state.identity()
        assert identity is not None
        assert settings.runtime_dir is not None
        runtime = FakeRuntime(settings.runtime_dir / SOCKET_NAME, settings.state_dir)
        return await Worker(settings, state, identity, runtime=runtime).run()


if __name__ == "__main__":
    setup_logging("info")
    sys.exit(asyncio.run(_run()))
