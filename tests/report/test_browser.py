"""The page in a real browser: figures drawn, sound played, nothing fetched."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wg.report.build import write_report

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Debian's chromium and python playwright",
)
TRACES = "document.querySelectorAll('.scatterlayer .trace').length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page(sweep: Path, browser: Any, width: int, scheme: str) -> None:
    path = write_report(sweep, sweep.parent / "out", say=lambda _: None)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    troubles: list[str] = []
    requests: list[str] = []
    page.on(
        "console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda e: troubles.append(str(e)))
    page.on("request", lambda r: requests.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_function(f"{TRACES} > 0")
    # 5 figures of 2 arms, each with 3 seeds and their mean; the speed-up's three traces; and the
    # shares of runs of 2 arms
    assert page.evaluate(TRACES) == 5 * 2 * 4 + 3 + 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    _controls(page)
    played = page.evaluate(
        """async () => {
            const el = document.querySelectorAll('audio')[1];
            await el.play();
            for (let i = 0; i < 200 && el.currentTime == 0; i++)  // a busy machine takes its time
                await new Promise((done) => setTimeout(done, 100));
            return [el.currentTime, el.duration, el.error];
        }"""
    )
    assert played[0] > 0
    assert played[1] == pytest.approx(1.0, abs=0.05)
    assert played[2] is None
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert troubles == []
    assert [u for u in requests if not u.startswith(("data:", "blob:"))] == [path.as_uri()]
    page.close()


def _controls(page: Any) -> None:
    """The axis, the logarithm, seeds and arms can be chosen."""
    layout = "document.querySelector('#curve-log_mel_l1 .js-plotly-plot')._fullLayout.xaxis"
    page.click("[data-axis=steps]")
    assert page.evaluate(f"{layout}.title.text") == "optimizer steps"
    page.check("#log-x")
    assert page.evaluate(f"{layout}.type") == "log"
    page.uncheck("#show-seeds")
    assert page.evaluate(TRACES) == 5 * 2 + 3 + 2
    page.select_option("#band", "fast")
    assert page.evaluate(TRACES) == 5 * 2 + 3 + 2 + 1
    page.select_option("#band", "")
    page.uncheck("[data-arm=nvidia]")
    assert page.evaluate(TRACES) == 5 + 3 + 1
    page.uncheck("#log-x")
    page.click("[data-axis=train_seconds]")
