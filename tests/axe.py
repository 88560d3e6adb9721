"""What axe-core, the checker of accessibility, finds on a page that is open."""

import subprocess
from functools import cache
from pathlib import Path
from shutil import which

from cnnport.measuring.studies.chromium import Chromium

REASON = "no axe-core here: npm install -g axe-core"

_ASKED = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => "
    "found.violations.map(each => each.id + ': ' + each.nodes[0].html))"
)


@cache
def source() -> str | None:
    """axe-core, where npm has it."""
    if which("npm") is None:
        return None
    root = subprocess.run(["npm", "root", "-g"], check=False, capture_output=True, text=True).stdout.strip()
    path = Path(root) / "axe-core" / "axe.min.js"
    return path.read_text() if path.is_file() else None


def violations(browser: Chromium) -> list[str]:
    """Each rule that the page breaks, with an element that does."""
    browser.evaluate(f"{source()}; 1")
    found: list[str] = browser.evaluate(_ASKED)
    return found
