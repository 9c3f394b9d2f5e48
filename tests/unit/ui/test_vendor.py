"""The third-party files of the dashboard are the published ones, with their licences."""

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).parents[3] / "schemas/src/edge_ui/static/vendor"
ROW = re.compile(r"^\| `(?P<file>[^`]+\.js)` \| npm package .* \| .* \| `(?P<hash>[0-9a-f]{64})` \|$", re.MULTILINE)


def test_each_script_is_the_published_one() -> None:
    noted = {match["file"]: match["hash"] for match in ROW.finditer((VENDOR / "README.md").read_text())}
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in VENDOR.glob("*.js")}
    assert found
    assert found == noted


def test_the_licences_are_there() -> None:
    assert "Apache License" in (VENDOR / "LICENSE-htm.txt").read_text()
    assert "The MIT License" in (VENDOR / "LICENSE-preact.txt").read_text()
