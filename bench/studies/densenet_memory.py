"""What DenseNet's memory-efficient mode saves: ``python -m cnnport.measuring.studies.densenet_memory [FILE]``.

One training step, forward and backward, of each case in a process of its own, with the mode and without, in rounds.
The peak of the resident set is measured, and beside it stands what the forward pass leaves for the backward pass by
the definition alone. Other processes do not change either number, so that this needs no quiet machine.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport import registry
from cnnport.answering import follow, take_stdout
from cnnport.errors import CnnportError
from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json
from cnnport.measuring.studies.rows import write_document
from cnnport.memory import peak_memory_bytes, return_large_blocks
from cnnport.process import Failure, ask, command_of

if TYPE_CHECKING:
    from torch import Tensor, nn

_ROUNDS = 3
_LIMIT_S = 1800.0
# Some kernels take working memory for each thread: one thread is the same case on every machine.
_THREADS = 1


@dataclass(frozen=True)
class Case:
    """A network and the number of images in one step, in one of the two modes."""

    network: str
    batch: int
    memory_efficient: bool


CASES = tuple(
    Case(network, batch, memory_efficient)
    for network, batch in (("densenet121", 8), ("densenet_bc100_k12_cifar10", 64))
    for memory_efficient in (False, True)
)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a line for each case, and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.densenet_memory", description=__doc__
    )
    parser.add_argument("file", type=Path, nargs="?", default=Path("bench/results/densenet_memory.json"))
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="processes for each case")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return _work()
    try:
        rows = measure(CASES, options.rounds)
        document = {"environment": read_environment().to_json(), "threads": _THREADS, "cases": rows}
        write_document(options.file, document)
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    for row in rows:
        mode = "memory-efficient" if row["memory_efficient"] else "plain"
        peak, kept = row["peak_bytes"] / 2**20, row["kept_bytes"] / 2**20
        title = f"{row['network']}, batch {row['batch']}, {mode}"
        print(f"{title}: peak {peak:.0f} MiB, kept for backward {kept:.0f} MiB")  # noqa: T201
    return 0


def measure(cases: tuple[Case, ...], rounds: int) -> list[Json]:
    """Measure every case once a round, so that what drifts meets all of them.

    Returns:
        One row for each: the case, ``peak_bytes`` (largest resident set of the process, median of the rounds),
        ``start_bytes`` (the same before the step: interpreter, torch, network and images), ``peaks_bytes`` (of each
        round), and ``kept_bytes`` of ``kept_for_backward``.

    Raises:
        CnnportError: If a process gives no answer.
    """
    answers: dict[Case, list[Json]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            command = (*command_of("cnnport.measuring.studies.densenet_memory"), "--worker")
            answer = ask(command, asdict(case), threads=_THREADS, timeout_s=_LIMIT_S)
            if isinstance(answer, Failure):
                raise CnnportError(f"{case.network}, batch {case.batch}: {answer.reason}")
            answers[case].append(answer)
    return [
        {
            **asdict(case),
            "peak_bytes": round(statistics.median(answer["peak_bytes"] for answer in found)),
            "start_bytes": round(statistics.median(answer["start_bytes"] for answer in found)),
            "peaks_bytes": [answer["peak_bytes"] for answer in found],
            "kept_bytes": kept_for_backward(case),
        }
        for case, found in answers.items()
    ]


def kept_for_backward(case: Case) -> int:
    """Bytes of all tensors that are alive between forward and backward, parameters and images left out.

    Counted, not measured: the forward pass runs without values.
    """
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    made: dict[int, tuple[StorageWeakRef, int]] = {}

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Notes every storage that an operator makes, without keeping it alive."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for value in tree_leaves(result):
                if isinstance(value, torch.Tensor):
                    storage = value.untyped_storage()
                    reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                    made[storage._cdata] = (reference, storage.nbytes())
            return result

    with torch.device("meta"):
        module, images = _prepared(case)
    with Watch():  # type: ignore[no-untyped-call]
        # The loss holds the graph, and the graph what it needs.
        loss = module(images).square().mean()
    kept = [size for reference, size in made.values() if not reference.expired()]  # type: ignore[no-untyped-call]
    del loss
    return sum(kept)


def _prepared(case: Case) -> "tuple[nn.Module, Tensor]":
    """The network in training mode, and images for it."""
    import torch

    from cnnport.models.densenet import DenseLayer

    spec = registry.get(case.network)
    module = spec.build().train()
    for layer in module.modules():
        if isinstance(layer, DenseLayer):
            layer.memory_efficient = case.memory_efficient
    return module, torch.rand(case.batch, *spec.input_shape)


def _work() -> int:
    """Take one step and answer with this process's peaks before and after it."""
    answers = take_stdout()
    question = json.load(sys.stdin)
    follow(question.pop("parent"))
    # What counts is what the step needs at once, not what the allocator keeps for later.
    return_large_blocks()
    module, images = _prepared(Case(**question))
    start = peak_memory_bytes()
    module(images).square().mean().backward()
    answers.write(json.dumps({"start_bytes": start, "peak_bytes": peak_memory_bytes()}) + "\n")
    answers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
