"""Pictures of a page of ``cnnport report``: ``python tests/report_images.py PAGE.html docs/images``.

Needs Chromium. The first screen by day, by night and on a phone, and single figures, by the words that their titles
begin with: by day on a wide screen (--figure), or by night on a phone (--phone).
"""

import argparse
import io
import json
from pathlib import Path

from PIL import Image

from cnnport.measuring.studies.chromium import Chromium, chromium

SCREENS = {"light": (1280, 860, False), "dark": (1280, 860, True), "phone": (375, 812, False)}

_ROOM_PX = 16

# A figure's place on the page: left, top, width and height.
_PLACE = """(title => {
  const found = [...document.querySelectorAll('figure')].find(
    each => each.querySelector('h3').textContent.startsWith(title));
  const place = found.getBoundingClientRect();
  return [place.x + scrollX, place.y + scrollY, place.width, place.height];
})"""


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    for option in ("--figure", "--phone"):
        parser.add_argument(option, action="append", default=[], metavar="NAME=TITLE")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, (width, height, dark) in SCREENS.items():
            browser.open(asked.page, width=width, height=height, dark=dark, scale=2 if width < 500 else 1)
            _save(browser, asked.folder / f"report_{name}.png", (0, 0, width, height))
        for figures, width, dark in ((asked.figure, 1280, False), (asked.phone, 375, True)):
            browser.open(asked.page, width=width, dark=dark, scale=2 if dark else 1)
            for name, _, title in (figure.partition("=") for figure in figures):
                left, top, wide, high = browser.evaluate(f"{_PLACE}({json.dumps(title)})")
                clip = (left - _ROOM_PX, top - _ROOM_PX, wide + 2 * _ROOM_PX, high + 2 * _ROOM_PX)
                _save(browser, asked.folder / f"report_{name}.png", clip)


def _save(browser: Chromium, path: Path, clip: tuple[float, float, float, float]) -> None:
    """With 128 colours, which are enough for such pictures and make them a third as large."""
    browser.screenshot(path, clip)
    image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
