"""Pictures of the page of ``cnnport package --for web``: ``python tests/web_images.py PACKAGE PICTURE docs/images``.

Needs Chromium. The page with an answer, by day, by night and on a phone: web_demo.png, web_demo_dark.png and
web_demo_phone.png.
"""

import argparse
import io
from pathlib import Path

from PIL import Image

from cnnport.measuring.studies.chromium import chromium
from cnnport.measuring.studies.loopback import serve
from cnnport.measuring.studies.web_pages import PATIENCE_S, open_page

SCREENS = {
    "web_demo": (1120, 830, False),
    "web_demo_dark": (1120, 830, True),
    "web_demo_phone": (360, 780, False),
}


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height, dark) in SCREENS.items():
        with serve(asked.package) as site, chromium() as browser:
            open_page(browser, f"{site.address}?backend=wasm", width=width, height=height, dark=dark, scale=2)
            browser.prefer(dark=dark, still=True)
            browser.choose("#choose", [asked.picture])
            browser.wait_for("document.querySelectorAll('#results li').length > 0", PATIENCE_S)
            browser.wait_for("document.documentElement.dataset.offline", PATIENCE_S)
            browser.wait_for("document.getElementById('preview').complete", PATIENCE_S)
            browser.evaluate("scrollTo(0, 0)")
            path = asked.folder / f"{name}.png"
            browser.screenshot(path, (0, 0, width, height))
        # So few colours are enough, and make it a third as large.
        image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
        image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
