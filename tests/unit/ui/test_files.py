"""The files of the dashboard, as they are and as they are packed."""

import gzip
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from edge_ui.files import CONTENT_TYPES, UiFiles

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "schemas/src/edge_ui/static"
IMPORT = re.compile(r'^(?:import|export)\b[^;]*?from "([^"]+)";', re.MULTILINE)


def test_the_page_names_all_modules_by_digest() -> None:
    ui = UiFiles()
    page = ui.page.content.decode()
    named = re.findall(rf'"assets/{ui.digest}/([^"]+)"', page)
    assert {name for name in ui.names() if name.endswith((".js", ".css"))} <= set(named)
    assert all(ui.asset(name) for name in named)
    assert "HASH" not in page


def test_every_import_is_a_file() -> None:
    ui = UiFiles()
    for name in ui.names():
        if name.endswith(".js") and not name.startswith("vendor/"):
            for target in IMPORT.findall((STATIC / name).read_text()):
                resolved = (STATIC / name).parent.joinpath(target).resolve()
                assert ui.asset(str(resolved.relative_to(STATIC))), f"{name} imports {target}"


def test_a_path_that_is_not_among_them_is_none() -> None:
    ui = UiFiles()
    for path in ("../files.py", "js/../../files.py", "/etc/passwd", "js", "", "vendor/README.md", "js/main.js/"):
        assert ui.asset(path) is None


def test_tags_can_be_added_to_the_head() -> None:
    assert b"<script src=x></script></head>" in UiFiles(b"<script src=x></script>").page.content
    assert UiFiles(b"<script src=x></script>").page.etag != UiFiles().page.etag


def test_the_packed_content_is_the_same() -> None:
    ui = UiFiles()
    for name in ui.names():
        asset = ui.asset(name)
        assert asset is not None
        assert gzip.decompress(asset.packed) == asset.content


def test_the_page_is_small() -> None:
    ui = UiFiles()
    packed = [asset.packed for name in ui.names() if (asset := ui.asset(name)) and not name.endswith(".txt")]
    assert sum(map(len, packed)) < 100_000


def test_no_markup_from_strings() -> None:
    """Trusted Types refuse it in the browser as well."""
    for file in STATIC.rglob("*.js"):
        if file.parent.name != "vendor":
            text = file.read_text()
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "dangerouslySet", "document.write", "eval("):
                assert word not in text, f"{file.name}: {word}"


def test_no_file_is_long() -> None:
    sizes = {file.name: len(file.read_text().splitlines()) for file in STATIC.rglob("*.js")}
    assert {name: lines for name, lines in sizes.items() if lines > 260} == {}


def test_the_wheel_has_every_file(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "schemas", check=True, capture_output=True, timeout=50)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name.removeprefix("edge_ui/static/") for name in zipfile.ZipFile(wheel).namelist()}
    wanted = {str(file.relative_to(STATIC)) for file in STATIC.rglob("*") if file.suffix in CONTENT_TYPES}
    assert wanted <= packed
    assert "vendor/README.md" in packed
