"""For the tests of projects that ship a file: held to answers that were kept, on any runtime, without PyTorch.

Pytest finds this module by itself once cnnport is installed, and gives tests the fixture ``assert_parity``; anybody
else may call the function. The answers are made by ``cnnport parity MODEL --save goldens``. Nothing is imported but
pytest until a test asks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cnnport.agreement import Matrix


def assert_parity(
    file: str | Path,
    goldens: str | Path,
    runtime: str | Sequence[str] = (),
    *,
    atol: float | None = None,
    rtol: float | None = None,
    threads: int | None = None,
    checks: bool = True,
) -> "Matrix":
    """Hold a file to answers that were kept.

    Args:
        file: An .onnx file, or an engine that ``cnnport build`` wrote.
        goldens: The folder that ``cnnport parity --save`` made.
        runtime: One or several; all that are present, PyTorch apart, if none is named.
        atol: Allowed absolute difference, instead of what the precision allows.
        rtol: Beside it, as a share of each value.
        threads: Of a run; the runtime's own if None.
        checks: Whether the file is held against itself as well: other batches, again, other threads, opened anew.

    Returns:
        The comparison.

    Raises:
        AssertionError: If a runtime departs, with the sample, output, index and values.
        CnnportError: If the goldens are damaged, or the file cannot be read.
        RuntimeMissingError: If the runtime is not installed.
    """
    __tracebackhide__ = True
    from cnnport.agreement import Plan, Request, parity
    from cnnport.agreement.page import lines_below
    from cnnport.runtimes import RUNTIMES, Options
    from cnnport.store import artifact_of

    path = Path(file)
    names = (runtime,) if isinstance(runtime, str) else tuple(runtime)
    request = Request(
        files=((path.name, artifact_of(str(path))),),
        runtimes=names,
        options={name: Options(threads=threads) for name in RUNTIMES},
        plan=Plan(checks=checks, atol=atol, rtol=rtol),
        against=Path(goldens),
    )
    matrix = parity(request)
    if not matrix.ok:
        text = "\n".join(lines_below(matrix))
        raise AssertionError(f"{path.name} does not say the same as {matrix.reference}\n{text}")
    return matrix


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where goldens lie, unless a test says."""
    parser.addini(
        "cnnport_goldens", "folder of goldens that assert_parity takes by default", default="goldens"
    )


@pytest.fixture(name="assert_parity", scope="session")
def assert_parity_fixture(pytestconfig: pytest.Config) -> Callable[..., "Matrix"]:
    """``assert_parity`` with paths relative to the project, and goldens where ``cnnport_goldens`` says."""
    root = pytestconfig.rootpath

    def check(
        file: str | Path,
        goldens: str | Path | None = None,
        runtime: str | Sequence[str] = (),
        *,
        atol: float | None = None,
        rtol: float | None = None,
        threads: int | None = None,
        checks: bool = True,
    ) -> "Matrix":
        __tracebackhide__ = True
        folder = root / (goldens or pytestconfig.getini("cnnport_goldens"))
        return assert_parity(
            root / file, folder, runtime, atol=atol, rtol=rtol, threads=threads, checks=checks
        )

    return check
