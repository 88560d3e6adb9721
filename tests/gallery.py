"""Runs the examples of a page of docs/gallery: its python and bash blocks, in order, in one folder.

``python gallery.py PAGE`` prints what they print. Python blocks are one program in pieces; a bash block runs by
itself, with ``-e -u -o pipefail``, and stops everything if it fails. Blocks in other languages are for reading.
"""

import re
import subprocess
import sys
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of the blocks that are run."""
    return [(language, text) for language, text in _BLOCK.findall(page) if language in {"python", "bash"}]


def run(page: Path) -> None:
    """Run all of them here; the first that fails raises."""
    names: dict[str, object] = {"__name__": "__main__"}
    # As where one types it: modules of the folder can be imported.
    sys.path.insert(0, "")
    for number, (language, text) in enumerate(blocks(page.read_text(encoding="utf-8")), start=1):
        if language == "bash":
            sys.stdout.flush()
            subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True)
        else:
            exec(compile(text, f"{page.name}, block {number}", "exec"), names)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
