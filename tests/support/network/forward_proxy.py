"""A real forward proxy: the package proxy.py, as a process."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.nats.server import eventually


@asynccontextmanager
async def forward_proxy(folder: Path, *options: str) -> AsyncIterator[int]:
    """Its port; `options` are its own."""
    port_file = folder / "port"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port_file),
        "--num-acceptors", "1", "--num-workers", "1", "--log-level", "ERROR", *options,
    )  # fmt: skip
    try:
        await eventually(
            lambda: port_file.exists() and port_file.read_text().strip().isdigit(), timeout_s=20, what="a proxy"
        )
        yield int(port_file.read_text())
    finally:
        process.terminate()
        await process.wait()
