"""Small files that people write with any editor."""

from pathlib import Path

import pytest

from edge_service.text_files import NotText, read_text_file, text_of


@pytest.mark.parametrize(
    "content",
    [b"secret\nmore\n", b"\xef\xbb\xbfsecret\nmore\n", b"secret\r\nmore\r\n", b"\xef\xbb\xbfsecret\rmore\r"],
    ids=["plain", "byte order mark", "CRLF", "byte order mark and CR"],
)
def test_all_editors_write_the_same_text(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert read_text_file(file) == "secret\nmore\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1"])
def test_what_is_not_utf_8_is_refused_without_the_content(encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    with pytest.raises(NotText) as refused:
        text_of(f"{mark}pässword".encode(encoding))
    assert "UTF-8" in str(refused.value)
    assert "ssword" not in str(refused.value)
    assert ("UTF-16" in str(refused.value)) is encoding.startswith("utf-16")
