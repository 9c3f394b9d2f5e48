"""What the command line says, and ends with, when something is wrong."""

import asyncio
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_worker.cli import main
from support.fake_relay import ENROLL_TOKEN, FakeRelay


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(ENROLL_TOKEN + "\n"))


async def _enroll(relay_url: str, state_dir: Path, more: Sequence[str] = ()) -> int:
    return await asyncio.to_thread(main, ["enroll", "--relay", relay_url, "--state-dir", str(state_dir), *more])


async def _refuse_password(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_a_wrong_proxy_password_ends_an_enrolment_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy = await asyncio.start_server(_refuse_password, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    async with proxy, asyncio.timeout(10):
        code = await _enroll("https://relay.example.com", tmp_path, ["--proxy-url", url.replace("//", "//u:hidden@")])
    said = capsys.readouterr().err
    assert code == 5
    assert f"the proxy {url} answered 407" in said
    assert "hidden" not in said


async def test_a_disk_that_cannot_be_written_is_said_in_one_line(
    relay: FakeRelay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "enrolling.json.new").mkdir()
    assert await _enroll(relay.url, tmp_path) == 1
    assert capsys.readouterr().err.startswith("edge-worker: [Errno")


def test_the_help_lists_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "3 the credential was revoked" in " ".join(capsys.readouterr().out.split())
