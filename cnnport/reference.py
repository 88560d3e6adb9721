"""PyTorch's own answers, and the check of an ONNX graph against them."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnport.artifact import TensorSpec
from cnnport.capture import named_outputs
from cnnport.compare import FP32_TOLERANCE, Agreement, compare, incomparable
from cnnport.errors import CnnportError, ModelError
from cnnport.float64 import run_in_float64
from cnnport.golden import seeded_input
from cnnport.misfit import explain
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, require_runtime

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, NDArray[np.generic]]

# Float32 is allowed to be this much further from float64 in the file than in PyTorch: both round, differently.
_FLOAT32_SLACK = 2.0

# Beyond this share of the standard deviation float32 says nothing of a network any more.
_FLOAT32_LIMIT = 1e-2

# Added to height and width where both are open: no square, odd where the native size is even, no multiple of a step.
_LARGER_PX = (37, 69)
# Shares of height and width for a smaller image; networks with a smallest size may refuse the first, or both.
_SMALLER = ((0.6, 0.75), (0.92, 0.95))


@dataclass(frozen=True)
class Case:
    """An input: its batch size, its seed, and its height and width."""

    batch: int
    seed: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        ok: Whether every output agrees on every input.
        worst: The agreement of the output that is furthest off.
        where: Output, batch, seed and size of the worst.
        note: Set where float32 is further off than the tolerance: all distances from float64, in words.
    """

    ok: bool
    worst: Agreement
    where: str
    note: str = ""

    def __str__(self) -> str:
        """One line for people."""
        text = (
            f"max error {self.worst.max_abs:.2e} ({self.worst.error:.1e} of the output's std) at {self.where}"
        )
        return f"{text}; {self.note}" if self.note else text


@dataclass(frozen=True)
class _Distances:
    """From PyTorch in float64, in standard deviations of the output.

    Attributes:
        file: Of the file on the runtime, in float32.
        torch: Of PyTorch in float32.
        graph: Of the graph computed in float64: rounded weights, or a mistake; None where that cannot be computed.
    """

    file: float
    torch: float
    graph: float | None

    @property
    def ok(self) -> bool:
        """Whether rounding explains the distance: the graph itself is right, or PyTorch's float32 is as far off."""
        if not self.file <= _FLOAT32_LIMIT:
            return False
        if self.graph is not None and self.graph <= FP32_TOLERANCE:
            return True
        is_rough = FP32_TOLERANCE / _FLOAT32_SLACK < self.torch <= _FLOAT32_LIMIT
        return is_rough and self.file <= _FLOAT32_SLACK * self.torch

    def __str__(self) -> str:
        """All of them, in words."""
        text = f"against float64 (of std): file {self.file:.1e}, PyTorch float32 {self.torch:.1e}"
        return text if self.graph is None else f"{text}, the file's graph in float64 {self.graph:.1e}"


def _furthest(exact: Arrays, found: Arrays) -> float:
    return max(compare(values, found[name]).error for name, values in exact.items())


class Reference:
    """A module with seeded inputs and its outputs for them, at several batch sizes and, where it takes any, sizes.

    Attributes:
        cases: The inputs; the first is of native size.
        quick: So many of the first cases show most faults: one of each size and two batches.
        outputs: By name, for each case.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        *,
        input_names: tuple[str, ...] = ("input",),
        output_name: str,
        batches: tuple[int, ...],
        seeds: tuple[int, ...],
        any_size: bool = False,
    ) -> None:
        """Run the module on every combination of batch and seed at its native size, and once at each other size.

        Args:
            module: In evaluation mode.
            input_shape: Channels, height, width of each input.
            input_names: In the order of the module's arguments.
            output_name: Of an output that is the only one.
            batches: Sizes of the first dimension.
            seeds: For ``golden.seeded_input``.
            any_size: Whether images are of any size: a larger one is run as well, and a smaller one if there is one.

        Raises:
            ModelError: If the module cannot run on that shape or the larger one, or its outputs are not finite, or
                not the same for the same input.
        """
        self._module = module
        self._output_name = output_name
        self._input_names = input_names
        self._channels, *native = input_shape
        self._native = (native[0], native[1])
        self._any_size = any_size
        first, *rest = (Case(batch, seed, self._native) for seed in seeds for batch in batches)
        others = [Case(batches[0], seeds[0], size) for size in self._other_sizes()] if any_size else []
        self.cases = (first, *others, *rest)
        self.quick = min(2 + len(others), len(self.cases))
        self.outputs: tuple[Arrays, ...] = tuple(
            self._run(self._module, self.feeds(case)) for case in range(len(self.cases))
        )
        again = self._run(self._module, self.feeds(0))
        for name, values in self.outputs[0].items():
            if not compare(values, again[name]).within() and np.isfinite(values).all():
                raise ModelError(f"the network gives another {name!r} each time: it draws random numbers")
            if not np.isfinite(values).all():
                raise ModelError(
                    f"the network's {name!r} holds NaN or infinity: nothing can be verified against that"
                )

    def feeds(self, case: int) -> Arrays:
        """The inputs of one case, made anew each time: kept, they would outweigh a small network."""
        return self._feeds(self.cases[case])

    def example(self) -> Arrays:
        """The inputs to capture the module with: the batch is above 1 unless all are, and any size is not native."""
        batch = max(case.batch for case in self.cases[: self.quick])
        size = self._larger() if self._any_size else self._native
        return self._feeds(Case(batch, self.cases[0].seed, size))

    def check(self, model: "onnx.ModelProto", *, optimize: bool, cases: int | None = None) -> Verdict:
        """Run a graph on ONNX Runtime over the same inputs and compare.

        Args:
            model: The graph.
            optimize: Whether ONNX Runtime may rewrite it; without, the file's own semantics are checked.
            cases: Only the first so many inputs; None for all.

        Raises:
            RuntimeMissingError: If onnxruntime is not installed.
            ArtifactError: If it cannot load the graph.
        """
        import onnx

        runtime = require_runtime("ort-cpu")
        with tempfile.TemporaryDirectory(prefix="cnnport-") as folder:
            path = Path(folder) / "candidate.onnx"
            large = model.ByteSize() > 2**30
            # save_model empties the model it writes beside its data: that must be a copy.
            onnx.save_model(copy.deepcopy(model) if large else model, path, save_as_external_data=large)
            artifact = read_artifact(path)
            with runtime.open(artifact, Options(optimize=optimize, reuse_memory=False)) as session:
                answers = [session.run(self.feeds(case)) for case in range(cases or len(self.cases))]
        return self._judge(answers, model)

    def check_module(self, module: nn.Module) -> Verdict:
        """Run another module over the same inputs and compare; outputs that only it has are passed over.

        Raises:
            ModelError: If it cannot run on them.
        """
        return self._judge([self._run(module, self.feeds(case)) for case in range(len(self.cases))])

    def _other_sizes(self) -> list[tuple[int, int]]:
        """A larger size, and the first smaller one that the module runs on."""
        height, width = self._native
        sizes = [self._larger()]
        for share_h, share_w in _SMALLER:
            # Odd, so that the steps of a network leave something over.
            size = (int(height * share_h) | 1, int(width * share_w) | 1)
            try:
                self._forward(self._module, self._feeds(Case(1, 0, size)))
            except Exception:  # noqa: S112 - it says no more than that the network has a smallest size
                continue
            return [*sizes, size]
        return sizes

    def _larger(self) -> tuple[int, int]:
        return self._native[0] + _LARGER_PX[0], self._native[1] + _LARGER_PX[1]

    def _feeds(self, case: Case) -> Arrays:
        shape = ("batch", self._channels, *case.size)
        specs = [TensorSpec(name, "float32", shape) for name in self._input_names]
        return seeded_input(specs, case.batch, case.seed)

    def _judge(self, answers: list[Arrays], model: "onnx.ModelProto | None" = None) -> Verdict:
        found: list[tuple[Agreement, str, int]] = []
        for index, (answer, expected) in enumerate(zip(answers, self.outputs, strict=False)):
            case = self.cases[index]
            for name, values in expected.items():
                where = f"{name}, batch {case.batch}, seed {case.seed}"
                if case.size != self._native:
                    where += f", {case.size[0]}x{case.size[1]}"
                if name not in answer or answer[name].shape != values.shape:
                    got = answer[name].shape if name in answer else "nothing"
                    note = f"shape {got} where PyTorch gives {values.shape}"
                    return Verdict(False, incomparable(), where, note)
                found.append((compare(values, answer[name]), where, index))
        worst, where, _ = max(found, key=lambda item: item[0].error)
        if worst.within(FP32_TOLERANCE):
            return Verdict(True, worst, where)
        if not worst.finite:
            return Verdict(False, worst, where, "NaN or infinity")
        doubtful = {index for agreement, _, index in found if not agreement.within(FP32_TOLERANCE)}
        distances = [self._against_float64(index, answers[index], model) for index in sorted(doubtful)]
        furthest = max(distances, key=lambda each: each.file)
        return Verdict(all(each.ok for each in distances), worst, where, str(furthest))

    def _against_float64(self, index: int, answer: Arrays, model: "onnx.ModelProto | None") -> "_Distances":
        """Where float32 is further off than the tolerance: how far the graph, and each float32, is from float64."""
        feeds = self.feeds(index)
        exact = self._run(copy.deepcopy(self._module).double(), feeds)
        wide = None if model is None else run_in_float64(model, feeds)
        return _Distances(
            file=_furthest(exact, answer),
            torch=_furthest(exact, self.outputs[index]),
            graph=None if wide is None else _furthest(exact, wide),
        )

    def _run(self, module: nn.Module, feeds: Arrays) -> Arrays:
        try:
            result = self._forward(module, feeds)
        except CnnportError:
            raise
        except Exception as error:
            raise explain(module, [value.shape[1:] for value in feeds.values()], error) from error
        return {
            name: tensor.numpy().copy() for name, tensor in named_outputs(result, self._output_name).items()
        }

    def _forward(self, module: nn.Module, feeds: Arrays) -> Any:
        dtype = next(module.parameters(), torch.empty(0)).dtype
        with torch.inference_mode():
            return module(*(torch.from_numpy(feeds[name]).to(dtype) for name in self._input_names))
