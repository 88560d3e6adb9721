"""What a package for the web answers, in a browser that is installed here."""

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnport.errors import CheckFailedError
from cnnport.measuring.studies.chromium import Chromium, chromium
from cnnport.measuring.studies.loopback import serve

PATIENCE_S = 120.0

_STATE = "document.documentElement?.dataset.state"

_CLASSIFY = """(async data => {
  const classifier = await cnnport.ready;
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  const { probabilities } = await classifier.classify(new Blob([bytes]));
  return [...probabilities];
})"""


def web_probabilities(
    folder: Path, pictures: Sequence[Path], *, backend: str = "wasm"
) -> NDArray[np.float32]:
    """Open the page of a web package in headless Chromium and have it classify picture files.

    Args:
        folder: What ``cnnport package --for web`` wrote.
        pictures: N files in formats that browsers read.
        backend: ``wasm``, ``webgpu`` or ``auto``.

    Returns:
        Probabilities, N x classes.

    Raises:
        RuntimeError: If no Chromium is installed, or it says no to a picture.
        CheckFailedError: If the page does not come up.
    """
    with serve(folder) as site, chromium() as browser:
        open_page(browser, f"{site.address}?backend={backend}")
        return np.array([page_probabilities(browser, path) for path in pictures], np.float32)


def first_answer_s(folder: Path, picture: Path, *, visits: int = 2) -> list[float]:
    """Seconds from asking for the page of a web package to its answer for a picture, on each of several visits.

    The first visit is that of a browser that has never seen the page: everything comes from the server, on this
    machine, and is written to the browser's disk; later ones find it there.

    Args:
        folder: What ``cnnport package --for web`` wrote.
        picture: A picture file.
        visits: How many.

    Raises:
        RuntimeError, CheckFailedError: As ``web_probabilities``.
    """
    seconds = []
    with serve(folder) as site, chromium() as browser:
        for _ in range(visits):
            begun = time.perf_counter()
            open_page(browser, f"{site.address}?backend=wasm")
            page_probabilities(browser, picture)
            seconds.append(time.perf_counter() - begun)
            browser.wait_for("document.documentElement.dataset.offline", PATIENCE_S)
    return seconds


def open_page(
    browser: Chromium,
    address: str,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    scale: float = 1,
) -> None:
    """Open the page of a package and wait until its model is loaded and checked; arguments as of ``Chromium.open``.

    Raises:
        CheckFailedError: If it says that the model cannot run.
    """
    browser.open(address, width=width, height=height, dark=dark, scale=scale)
    # The page may load itself anew on a first visit; a state that lasts is that of the last time.
    browser.wait_for(f"['ready', 'failed'].includes({_STATE})", PATIENCE_S)
    if browser.evaluate(_STATE) != "ready":
        raise CheckFailedError(f"the page says: {browser.evaluate('document.body.innerText')}")


def page_probabilities(browser: Chromium, picture: Path) -> list[float]:
    """Have the page that is open classify a picture file; gives a probability for each class."""
    data = json.dumps(base64.b64encode(picture.read_bytes()).decode())
    found: list[float] = browser.evaluate(f"{_CLASSIFY}({data})")
    return found
