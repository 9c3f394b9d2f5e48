"""What each address of the dashboard answers, without an HTTP framework."""

import gzip

import pytest

from edge_ui.files import UiFiles
from edge_ui.serving import CHECK_EACH_TIME, FOREVER, Ui

FILES = UiFiles()
UI = Ui(FILES, {"X-Of-All": "1"})


def test_the_page_is_checked_each_time() -> None:
    answer = UI.answer("")
    assert answer is not None
    assert (answer.status, answer.body) == (200, FILES.page.content)
    assert answer.headers["Cache-Control"] == CHECK_EACH_TIME
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    same = UI.answer("", given={"If-None-Match": answer.headers["ETag"]})
    assert same is not None
    assert (same.status, same.body, same.headers["X-Of-All"]) == (304, b"", "1")


@pytest.mark.parametrize(("digest", "caching"), [(FILES.digest, FOREVER), ("0" * 16, CHECK_EACH_TIME)])
def test_an_asset_is_kept_if_it_is_of_this_version(digest: str, caching: str) -> None:
    answer = UI.answer(f"assets/{digest}/js/main.js", given={"Accept-Encoding": "gzip, br"})
    asset = FILES.asset("js/main.js")
    assert answer is not None
    assert asset is not None
    assert answer.headers["Cache-Control"] == caching
    assert gzip.decompress(answer.body) == asset.content


def test_a_view_is_behind_the_hash() -> None:
    for path, query, target in [
        ("workers", "state=offline&site=a", "./#/workers?state=offline&site=a"),
        ("workers/edge-1", "", "../#/workers/edge-1"),
        ("jobs/<a>\r\n", "\r\nSet-Cookie: a", "../#/jobs/%3Ca%3E%0D%0A?%0D%0ASet-Cookie:%20a"),
    ]:
        answer = UI.answer(path, query)
        assert answer is not None
        assert (answer.status, answer.headers["Location"]) == (302, target)


@pytest.mark.parametrize("path", ["../files.py", "assets/x/../../files.py", "assets/x/", "/evil.example", "a/b/c", "."])
def test_other_paths_are_nothing(path: str) -> None:
    assert UI.answer(path) is None
