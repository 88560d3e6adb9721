"""A network that is open, and its runs."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import FeedError
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.feeds import check_feeds
from cnnport.runtimes.openvino import package
from cnnport.runtimes.openvino.choices import NAME
from cnnport.runtimes.openvino.network import Network
from cnnport.runtimes.protocol import Array, Tensors

# Openvino computes integers in 32 bits and cuts off what does not fit, without a word.
_WIDE = {"int64", "uint32", "uint64"}
_INT32 = np.iinfo(np.int32)


class OpenVinoSession(Closing):
    """A compiled network. Safe from several threads: every run has a request of its own."""

    def __init__(self, artifact: Artifact, network: Network, *, reuse_memory: bool) -> None:
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs
        self._network: Network | None = network
        self._failed = False
        # Memory can be given back only while nothing else runs.
        self._alone = None if reuse_memory else Lock()

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Every output by name.

        Raises:
            FeedError: If the feeds do not fit, or openvino fails in the run.
        """
        launch = self.bind(feeds)
        try:
            launch()
        except Exception as error:  # openvino's exceptions share no base but this
            self._failed = True
            raise FeedError(package.refusal(NAME, error)) from error
        return launch.outputs()

    def bind(self, feeds: Tensors) -> "OpenVinoLaunch":
        """Hand over the feeds, without a copy where they are contiguous and writable. Raises ``FeedError``."""
        network = self._network
        if network is None:
            raise ValueError("the session is closed")
        if self._failed:
            raise FeedError(
                f"{NAME} failed in a run of this session, and may compute wrongly since: open another"
            )
        check_feeds(self.inputs, feeds)
        expected = None
        if network.sizes is not None:
            expected = network.sizes.check(tuple(feeds[spec.name].shape for spec in self.inputs))
        arrays = [_shareable(spec, feeds[spec.name]) for spec in self.inputs]
        try:
            if self._alone is None:
                return OpenVinoLaunch(network, arrays, self.outputs, expected)
            return _FreeingLaunch(network, arrays, self.outputs, expected, self._alone)
        except Exception as error:
            raise FeedError(package.refusal(NAME, error)) from error

    def close(self) -> None:
        """Free the network; launches that are still held keep it until they go."""
        self._network = None


class OpenVinoLaunch:
    """One request with its inputs in place; it has finished when it returns."""

    def __init__(
        self,
        network: Network,
        arrays: Sequence[Array],
        specs: Sequence[TensorSpec],
        expected: tuple[Any, ...] | None,
    ) -> None:
        openvino = package.load()
        request = network.compiled.create_infer_request()
        for place, array in zip(network.inputs, arrays, strict=True):
            request.set_input_tensor(place, openvino.Tensor(array, shared_memory=True))
        # Tensors point into the arrays and do not hold them; the network may point into the bytes it came from.
        self._held = (arrays, network)
        self._request = request
        self._places = dict(zip((spec.name for spec in specs), network.outputs, strict=True))
        self._expected = expected
        # Under openvino's own wrapper, which would sort inputs and copy outputs in every run.
        beneath: Any = super(type(request), request)
        self._infer = beneath.infer

    def __call__(self) -> None:
        """Run. The arguments: no new inputs, outputs as views, no text to decode."""
        self._infer({}, True, False)

    def wait(self) -> None:
        """Return: the run has finished."""

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last run.

        Raises:
            FeedError: If one is not of the size that it has to be for these feeds.
        """
        found = {
            name: np.array(self._request.get_output_tensor(place).data)
            for name, place in self._places.items()
        }
        for (name, array), want in zip(
            found.items(), self._expected or (), strict=self._expected is not None
        ):
            if not want.compatible(package.load().PartialShape(list(array.shape))):
                raise FeedError(f"{NAME} gave {name!r} in the shape {array.shape}, where {want} was to come")
        return found


class _FreeingLaunch(OpenVinoLaunch):
    """A request after which the memory of the network's inner results is given back."""

    def __init__(
        self,
        network: Network,
        arrays: Sequence[Array],
        specs: Sequence[TensorSpec],
        expected: tuple[Any, ...] | None,
        alone: Lock,
    ) -> None:
        super().__init__(network, arrays, specs, expected)
        self._alone = alone
        self._release = network.compiled.release_memory

    def __call__(self) -> None:
        """Run, and give back; one run of the session at a time."""
        with self._alone:
            super().__call__()
            self._release()


def _shareable(spec: TensorSpec, array: Array) -> Array:
    """The array as openvino can read it in place, itself if it can.

    Raises:
        FeedError: If it holds integers of which openvino would make others.
    """
    if spec.dtype in _WIDE and array.size and not (_INT32.min <= array.min() <= array.max() <= _INT32.max):
        raise FeedError(f"feed {spec.name!r} holds integers beyond 32 bits, in which {NAME} computes")
    if array.flags.c_contiguous and array.flags.writeable:
        return array
    return array.copy(order="C")
