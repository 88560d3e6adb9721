"""PyTorch's own answers, and the check of an ONNX graph against them."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnport.artifact import TensorSpec
from cnnport.capture import named_outputs
from cnnport.compare import FP32_TOLERANCE, Agreement, compare, incomparable
from cnnport.errors import CnnportError, ModelError, first_line
from cnnport.golden import seeded_input
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, require_runtime

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, NDArray[np.generic]]

# Float32 is allowed to be this much further from float64 in the file than in PyTorch: both round, differently.
_FLOAT32_SLACK = 2.0

# Beyond this share of the standard deviation float32 says nothing of a network any more.
_FLOAT32_LIMIT = 1e-2


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        ok: Whether every output agrees on every input.
        worst: The agreement of the output that is furthest off.
        where: Output, batch and seed of the worst.
        note: Set where float32 itself is further from float64 than the tolerance: both distances, in words.
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


class Reference:
    """A module with seeded inputs and its outputs for them, at several batch sizes."""

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        *,
        input_names: tuple[str, ...] = ("input",),
        output_name: str,
        batches: tuple[int, ...],
        seeds: tuple[int, ...],
    ) -> None:
        """Run the module on every combination.

        Args:
            module: In evaluation mode.
            input_shape: Channels, height, width of each input.
            input_names: In the order of the module's arguments.
            output_name: Of an output that is the only one.
            batches: Sizes of the first dimension.
            seeds: For ``golden.seeded_input``.

        Raises:
            ModelError: If the module cannot run on that shape, or its outputs are not finite, or not the same
                for the same input.
        """
        self._module = module
        self._output_name = output_name
        self.cases = tuple((batch, seed) for seed in seeds for batch in batches)
        self._inputs = [TensorSpec(name, "float32", ("batch", *input_shape)) for name in input_names]
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
        batch, seed = self.cases[case]
        return seeded_input(self._inputs, batch, seed)

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
        return self._judge(answers)

    def _judge(self, answers: list[Arrays]) -> Verdict:
        found: list[tuple[Agreement, str, int]] = []
        for index, (answer, expected) in enumerate(zip(answers, self.outputs, strict=False)):
            batch, seed = self.cases[index]
            for name, values in expected.items():
                where = f"{name}, batch {batch}, seed {seed}"
                if name not in answer or answer[name].shape != values.shape:
                    got = answer[name].shape if name in answer else "nothing"
                    note = f"shape {got} where PyTorch gives {values.shape}"
                    return Verdict(False, incomparable(), where, note)
                found.append((compare(values, answer[name]), where, index))
        worst, where, index = max(found, key=lambda item: item[0].error)
        if worst.within(FP32_TOLERANCE):
            return Verdict(True, worst, where)
        if not worst.finite:
            return Verdict(False, worst, where, "NaN or infinity")
        return self._against_float64(worst, where, index, answers[index])

    def _against_float64(self, worst: Agreement, where: str, index: int, answer: Arrays) -> Verdict:
        """Where float32 is no better than this in PyTorch itself, hold both against float64 instead."""
        exact = self._run(copy.deepcopy(self._module).double(), self.feeds(index))
        name = where.split(",", 1)[0]
        torch_error = compare(exact[name], self.outputs[index][name]).error
        file_error = compare(exact[name], answer[name]).error
        note = f"against float64 (of std): file {file_error:.1e}, PyTorch float32 {torch_error:.1e}"
        is_rough = FP32_TOLERANCE / _FLOAT32_SLACK < torch_error <= _FLOAT32_LIMIT
        ok = is_rough and file_error <= _FLOAT32_SLACK * torch_error
        return Verdict(ok, worst, where, note)

    def _run(self, module: nn.Module, feeds: Arrays) -> Arrays:
        dtype = next(module.parameters(), torch.empty(0)).dtype
        inputs = [torch.from_numpy(feeds[spec.name]).to(dtype) for spec in self._inputs]
        try:
            with torch.inference_mode():
                result = module(*inputs)
        except CnnportError:
            raise
        except Exception as error:
            size = "x".join(map(str, inputs[0].shape[1:]))
            raise ModelError(f"the network cannot run on {size} inputs: {first_line(error)}") from error
        return {
            name: tensor.numpy().copy() for name, tensor in named_outputs(result, self._output_name).items()
        }
