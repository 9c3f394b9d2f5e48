"""Tiny wheels with the names of Airflow's, and a forward proxy through which alone their index is reachable."""

import asyncio
import base64
import ensurepip
import hashlib
import io
import stat
import sys
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

MIRROR = "http://mirror.invalid/simple"
"""No resolver knows it: only a request to the proxy finds it."""
_SDK = {
    "airflow/__init__.py": "__version__ = {version!r}\n",
    "airflow/dag_processing/dagbag.py": "",
    "airflow/dag_processing/bundles/manager.py": "",
    "airflow/dag_processing/bundles/local.py": "",
    "airflow/sdk/log.py": "def configure_logging(**_): ...\ndef load_remote_log_handler(): ...\n",
    "airflow/sdk/execution_time/supervisor.py": "",
    "airflow/sdk/execution_time/task_runner.py": "",
    "airflow/sdk/api/client.py": "class Client: ...\n",
    "typing_extensions.py": "from typing import Any as Buffer\ndef override(f): return f\n",
}
"""No proof for the real thing, which a soak test installs: only what `preload` must find."""


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, str], *, needs: str = "") -> str:
    """Write a wheel; returns its requirement with a hash."""
    dist = f"{name.replace('-', '_')}-{version}"
    require = f"Requires-Dist: {needs}\n" if needs else ""
    content = {
        **files,
        f"{dist}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{require}",
        f"{dist}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in content)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        for path, text in {**content, f"{dist}.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)
    (folder / f"{dist}-py3-none-any.whl").write_bytes(data.getvalue())
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(data.getvalue()).hexdigest()}"


def write_airflow(folder: Path, version: str) -> str:
    """Wheels of an Airflow; returns a lock of them."""
    folder.mkdir(exist_ok=True)
    files = {path: text.format(version=version) if "{" in text else text for path, text in _SDK.items()}
    core = write_wheel(folder, "apache-airflow-core", version, files)
    whole = write_wheel(folder, "apache-airflow", version, {}, needs=f"apache-airflow-core=={version}")
    continued = core.replace(" --hash", " \\\n    --hash")
    return f"# made by a test\n{whole}\n{continued}\n"


def quick_python(folder: Path) -> Path:
    """An interpreter whose environments get their pip by a link: each installation of pip would take seconds."""
    [bundled] = Path(ensurepip.__file__).with_name("_bundled").glob("pip-*.whl")
    script = folder / "python"
    script.write_text(
        f"""#!/bin/sh
if [ "$2 $3" = "-m venv" ]; then
    "{sys.executable}" -I -m venv --without-pip "$4" || exit 1
    echo "{bundled}" > "$4/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/pip.pth"
else
    exec "{sys.executable}" "$@"
fi
"""
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@dataclass
class IndexProxy:
    """A forward proxy that answers for one index.

    Attributes:
        password: Wanted of who asks; none if empty.
        hold: Clear it, and the files of wheels wait until it is set again.
        asked: What was asked for.
        arguments: Of all processes of the machine, each time something was asked for.
    """

    wheels: Path
    password: str = ""
    port: int = 0
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    arguments: set[bytes] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Without credentials."""
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers as proxy and as index."""
        self._look_at_arguments()
        expected = "Basic " + base64.b64encode(f"site:{self.password}".encode()).decode()
        if self.password and request.headers.get("Proxy-Authorization") != expected:
            return web.Response(status=407, reason="Proxy Authentication Required")
        target = urlsplit(request.raw_path)
        assert target.hostname == "mirror.invalid", request.raw_path
        self.asked.append(target.path)
        parts = target.path.strip("/").split("/")
        if parts[0] == "simple":
            return self._page(parts[1])
        await self.hold.wait()
        return web.Response(body=(self.wheels / parts[-1]).read_bytes())

    def _page(self, name: str) -> web.Response:
        found = [path.name for path in self.wheels.glob(f"{name.replace('-', '_')}-*.whl")]
        if not found:
            return web.Response(status=404)
        links = "".join(f'<a href="/files/{file}">{file}</a>' for file in found)
        return web.Response(text=f"<!DOCTYPE html><html><body>{links}</body></html>", content_type="text/html")

    def _look_at_arguments(self) -> None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self.arguments.add(process.read_bytes())
            except OSError:
                continue


@asynccontextmanager
async def index_proxy(wheels: Path, password: str = "") -> AsyncIterator[IndexProxy]:
    """A proxy on a free port of loopback."""
    proxy = IndexProxy(wheels, password)
    proxy.hold.set()
    runner = web.ServerRunner(web.Server(proxy.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    proxy.port = runner.addresses[0][1]
    try:
        yield proxy
    finally:
        proxy.hold.set()
        await runner.cleanup()
