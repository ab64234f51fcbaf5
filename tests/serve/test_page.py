"""The live page, in a real browser where there is one."""

from __future__ import annotations

import re
import shutil
from importlib import resources

import pytest

pytest.importorskip("starlette", reason="starlette is not installed; pip install 'sentryfuse[serve]'")

from tests.serve.served import TOKEN

pytestmark = pytest.mark.device
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_the_page_is_one_file_that_asks_for_nothing_outside():
    page = resources.files("sentryfuse.serve").joinpath("page.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|//[a-z0-9]+\.|@import|url\(", page)
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", page) == ["data:,"]
    assert "innerHTML" not in page  # texts of files and streams are never read as HTML


def test_a_browser_is_told_to_ask_nothing_outside(serve):
    code, headers, page = serve().ask("")
    policy = headers["content-security-policy"]
    assert code == 200
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; apt-get install chromium")
@pytest.mark.parametrize("width", [380, 1200], ids=["phone", "desk"])
def test_the_page_follows_a_run_and_changes_it(serve, width):
    reason = "playwright is not installed; pip install playwright"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    run = serve(token=True, host="0.0.0.0")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(run.url)
        page.get_by_text("enter the token below").wait_for()
        page.fill("#token", TOKEN)
        page.click("#entry button")
        page.get_by_text("live", exact=True).wait_for()
        page.locator("#status").filter(has_text="window").wait_for()
        page.locator("#legend").filter(has_text="walk").wait_for()
        page.fill("#ratio", "0.9")
        page.click("#budget button")
        page.locator("#events").filter(has_text="budget reason=asked for over HTTP").wait_for()
        page.uncheck("#choices input >> nth=1")
        page.click("#present button")
        page.locator(".strip").nth(1).filter(has_text="off").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x)"
        for canvas in ("#probabilities", ".strip canvas >> nth=0", ".strip canvas >> nth=1"):
            assert page.locator(canvas).evaluate(drawn)
        assert page.locator(".strip canvas").count() == 2  # one that never changes is a number
        run.end()
        page.get_by_text("the run has ended or cannot be reached").wait_for()
        browser.close()
    assert not wrong
    assert all(url.startswith(run.url) for url in asked)
    assert TOKEN not in "".join(asked)
