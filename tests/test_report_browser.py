"""The page of ``cnnport report`` in headless Chromium, opened as a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import axe
from cnnport.measuring.page import make_page
from cnnport.measuring.studies.chromium import Chromium, chromium, find

pytest.importorskip("vl_convert", reason="pip install 'cnnport[report]' brings what draws")
pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")

FILES = sorted((Path(__file__).parent / "data" / "report").glob("*.json"))
SIZES = {"a wide screen": 1280, "a phone": 375}

# Drawings that have a size on the screen, by their class.
DRAWN = """[...document.querySelectorAll('figure svg[role=img]')]
.filter(each => each.getBoundingClientRect().height > 40 && each.querySelectorAll('.data > *').length)
.map(each => each.getAttribute('class'))"""
OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(make_page(FILES))
    return path


@pytest.mark.parametrize("width", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_is_drawn_and_nothing_is_asked_for(
    browser: Chromium, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    browser.evaluate(OPEN_ALL)
    drawn = browser.evaluate(DRAWN)
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []
    figures = browser.evaluate("document.querySelectorAll('.drawing').length")
    assert drawn == ["narrow" if width < 500 else "wide"] * figures
    assert figures > 8
    assert browser.evaluate(TOO_WIDE) == 0
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
    colors = browser.evaluate("getComputedStyle(document.querySelector('.data path')).fill")
    assert colors.startswith("rgb(")


def test_planted_faults_are_found(browser: Chromium, page: Path, tmp_path: Path) -> None:
    """A picture of another host, a script, and something too wide."""
    html = page.read_text()
    planted = tmp_path / "planted.html"
    bad = '<img alt="" src="http://localhost:9/x.png"><script>1</script><div style="width: 90rem">x</div></main>'
    planted.write_text(html.replace("</main>", bad))
    browser.open(planted, width=375)
    assert any("Content Security Policy" in each for each in browser.complaints)
    assert browser.evaluate(TOO_WIDE) > 0
    planted.write_text(html.replace("</main>", bad).replace('http-equiv="Content-Security-Policy"', ""))
    browser.open(planted, width=375)
    assert "http://localhost:9/x.png" in browser.requests
    planted.write_text(html.replace('class="data"', ""))
    browser.open(planted)
    assert browser.evaluate(DRAWN) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(browser: Chromium, page: Path, dark: bool) -> None:
    if axe.source() is None:
        pytest.skip(axe.REASON)
    browser.open(page, dark=dark)
    browser.evaluate(OPEN_ALL)
    assert axe.violations(browser) == []
    browser.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"data:,\">')")
    assert any(each.startswith("image-alt") for each in axe.violations(browser))
