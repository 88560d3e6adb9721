"""Holds the definitions of all networks to the digests in ``data/golden_outputs.json``, one process a network.

    python tests/golden_outputs.py [PATTERN]...           check, the cheapest first; 1 if one differs
    python tests/golden_outputs.py --write [PATTERN]...   write the digests of today instead

All take an hour or more of computation in float64, so that the tests check the cheap ones only. Write anew, by name,
those whose definition was changed on purpose.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from fnmatch import fnmatchcase
from multiprocessing import get_context
from pathlib import Path

from cnnport import registry
from cnnport.digest import Digests, digests_of
from cnnport.errors import CnnportError
from cnnport.files import write_atomically
from cnnport.registry import ModelSpec

GOLDEN = Path(__file__).parent / "data" / "golden_outputs.json"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pattern", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--write", action="store_true", help="write the file, not check against it")
    parser.add_argument("--missing", action="store_true", help="only networks that are not in the file")
    parser.add_argument("--file", type=Path, default=GOLDEN, help="the digests")
    options = parser.parse_args(arguments)
    golden = read(options.file) if options.file.exists() else {}
    specs = [
        spec for spec in registry.specs() if any(fnmatchcase(spec.name, each) for each in options.pattern)
    ]
    if not specs:
        print(f"no network is called {' or '.join(options.pattern)}")  # noqa: T201
        return 1
    specs = [spec for spec in specs if not (options.missing and spec.name in golden)]
    wrong = 0
    for spec, found in computed(sorted(specs, key=lambda spec: spec.macs)):
        problem = found if isinstance(found, str) else difference(golden.get(spec.name), found)
        if options.write and isinstance(found, Digests):
            golden[spec.name] = found
            write(options.file, golden)
            problem = problem and f"written, {problem}"
        elif problem:
            wrong += 1
        print(f"{spec.name}: {problem or 'the same'}", flush=True)  # noqa: T201
    print(f"{wrong} of {len(specs)} differ")  # noqa: T201
    return 1 if wrong else 0


def computed(specs: Sequence[ModelSpec]) -> Iterator[tuple[ModelSpec, Digests | str]]:
    """The digests of each network, or why there are none; a process of its own gives its memory back."""
    for spec in specs:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            try:
                yield spec, pool.submit(digests_of, spec).result()
            except (CnnportError, BrokenProcessPool) as error:
                yield spec, str(error)


def difference(golden: Digests | None, found: Digests) -> str:
    """What is not as it was, in words; empty if nothing is."""
    if golden is None:
        return "not in the file"
    if golden.weights != found.weights:
        return "the seeded weights differ"
    return "" if golden.outputs == found.outputs else "the outputs differ"


def read(path: Path) -> dict[str, Digests]:
    return {name: Digests(**row) for name, row in json.loads(path.read_text(encoding="utf-8")).items()}


def write(path: Path, golden: dict[str, Digests]) -> None:
    """One line a network, in the order of the catalogue: a change of one shows as a change of one line."""
    rows = [
        f" {json.dumps(name)}: {json.dumps(asdict(golden[name]))}"
        for name in registry.names()
        if name in golden
    ]
    write_atomically(path, ("{\n" + ",\n".join(rows) + "\n}\n").encode())


if __name__ == "__main__":
    sys.exit(main())
