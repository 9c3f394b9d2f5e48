"""What the command line says, and ends with, when something is wrong."""

import asyncio
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_worker import cli
from edge_worker.cli import main
from edge_worker.host_client.client import TaskHost
from edge_worker.host_client.connection import HostDied
from edge_worker.settings import SettingsError
from edge_worker.settings_sources import load_settings
from support.network.certificates import Certificates
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay


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
    assert "proxy_password_file" in said
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


async def test_an_unknown_authority_is_named_with_the_setting(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "ENROLL_TRIES", 1)
    relay = FakeRelay(tls=certificates.server_context())
    await relay.start()
    code = await _enroll(relay.url, tmp_path)
    await relay.stop()
    said = capsys.readouterr().err
    assert code == 5
    assert f"the certificate of 127.0.0.1:{relay.port} is not trusted: unable to get local issuer certificate" in said
    assert "ca_file" in said


@pytest.mark.parametrize("url", ["https://relay.example.com:99999", "https://relay.example.com:x", "https://[::1"])
async def test_a_url_that_is_none_is_a_wrong_setting(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _enroll(url, tmp_path) == 2
    assert "relay_url" in capsys.readouterr().err


async def test_a_proxy_port_that_is_none_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:port")
    assert await _enroll("https://relay.example.com", tmp_path) == 2
    assert "HTTPS_PROXY: must look like http://proxy.example.com:3128" in capsys.readouterr().err


def test_a_user_without_a_home_needs_a_state_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        msg = "Could not determine home directory."
        raise RuntimeError(msg)

    monkeypatch.setattr("os.geteuid", lambda: 54321)
    monkeypatch.setattr(Path, "home", no_home)
    assert load_settings({"state_dir": str(tmp_path)}, {}).state_dir == tmp_path
    with pytest.raises(SettingsError, match="--state-dir"):
        load_settings({}, {})


async def test_a_runtime_that_is_missing_is_named_with_its_setting(tmp_path: Path, short_dir: Path) -> None:
    host = TaskHost(
        runtime_python=tmp_path / "no" / "python",
        runtime_dir=short_dir,
        state_dir=tmp_path,
        gateway_socket=short_dir / "s",
        env={},
        bundles={},
        hostname="w",
    )
    with pytest.raises(HostDied, match=r"no/python \(runtime_python\): No such file or directory"):
        await host._serve()


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
async def test_files_of_any_editor_are_read(relay: FakeRelay, tmp_path: Path, mark: str, end: str) -> None:
    token, settings = tmp_path / "token.txt", tmp_path / "worker.toml"
    token.write_bytes(f"{mark}{ENROLL_TOKEN}{end}".encode())
    settings.write_bytes(f"{mark}# a worker{end}state_dir = '{tmp_path / 'state'}'{end}".encode())
    more = ["--token-file", str(token), "--config", str(settings)]
    assert await asyncio.to_thread(main, ["enroll", "--relay", relay.url, *more]) == 0
    assert (tmp_path / "state").is_dir()


async def test_a_utf_16_file_is_named(relay: FakeRelay, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token.txt"
    token.write_bytes(ENROLL_TOKEN.encode("utf-16"))
    assert await _enroll(relay.url, tmp_path, ["--token-file", str(token)]) == 2
    assert "enroll_token_file cannot be read: it is UTF-16 text: save it as UTF-8" in capsys.readouterr().err
