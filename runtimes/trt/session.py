"""Sessions over an engine: buffers on the device, runs that are started and waited for, recorded runs."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError, FeedError, first_line
from cnnport.runtimes.closing import Closing
from cnnport.runtimes.cuda import CudaError, Gpu
from cnnport.runtimes.device_clock import DeviceClock
from cnnport.runtimes.engine_cache import Slot
from cnnport.runtimes.feeds import check_feeds
from cnnport.runtimes.protocol import Array, Tensors
from cnnport.runtimes.trt import api
from cnnport.runtimes.trt.engine import Engine
from cnnport.runtimes.trt.wishes import Wishes


class TensorRtSession(Closing):
    """An engine, one execution context for each prepared run, and the memory of both."""

    def __init__(
        self, artifact: Artifact, gpu: Gpu, engine: Engine, wishes: Wishes, kernels: Slot | None = None
    ) -> None:
        """Take over a device and an engine; both are freed with the session.

        Args:
            artifact: What the engine was built from, or is.
            gpu: The device, current in this thread.
            engine: On that device.
            wishes: How it is to be run.
            kernels: Where the kernels that RTX compiles on the device are kept; None to keep none.

        Raises:
            ArtifactError: If the engine's inputs and outputs are not the file's.
        """
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs
        self._gpu = gpu
        self._engine: Engine | None = engine
        self._wishes = wishes
        self._lock = threading.Lock()
        self._launches: weakref.WeakSet[TensorRtLaunch] = weakref.WeakSet()
        self._kept: tuple[dict[str, tuple[int, ...]], TensorRtLaunch] | None = None
        self._kernels = _Kernels(engine, kernels) if engine.package.rtx else None
        _check_tensors(artifact, engine)

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Every output by name. Raises ``FeedError``."""
        check_feeds(self.inputs, feeds)
        with self._using() as engine:
            shapes = {name: array.shape for name, array in feeds.items()}
            if self._kept is None or self._kept[0] != shapes:
                if self._kept is not None:
                    self._kept[1].close()
                self._kept = None
                self._kept = shapes, self._prepare(engine, feeds, record=False)
            else:
                self._kept[1].place(feeds)
            launch = self._kept[1]
            launch()
            launch.wait()
            return launch.outputs()

    def bind(self, feeds: Tensors) -> "TensorRtLaunch":
        """Copy the feeds to the device; runs are started on a stream of the launch's own. Raises ``FeedError``."""
        check_feeds(self.inputs, feeds)
        with self._using() as engine:
            return self._prepare(engine, feeds, record=self._wishes.cuda_graph and not engine.package.rtx)

    def profiled(self, feeds: Tensors, profiler: api.IProfiler) -> "TensorRtLaunch":
        """A launch whose runs tell a profiler how long each layer took; slower than others, and never recorded.

        The profiler is told when ``report()`` of the launch is called behind a run. Raises ``FeedError``.
        """
        check_feeds(self.inputs, feeds)
        with self._using() as engine:
            return self._prepare(engine, feeds, record=False, profiler=profiler)

    @property
    def engine(self) -> Engine:
        """The engine. Raises ``ValueError`` if the session is closed."""
        return self._opened()

    def close(self) -> None:
        """Free the launches, the engine and the device, in this order."""
        with self._lock:
            engine, self._engine = self._engine, None
            if engine is None:
                return
            with self._gpu.borrowed():
                self._kept = None
                for launch in list(self._launches):
                    launch.close()
                if self._kernels is not None:
                    self._kernels.keep()
                    self._kernels = None
                engine.close()
            self._gpu.close()

    def _opened(self) -> Engine:
        if self._engine is None:
            raise ValueError("the session is closed")
        return self._engine

    @contextmanager
    def _using(self) -> Iterator[Engine]:
        """The engine, this thread on its device, and nobody else at the session while the block lasts."""
        with self._lock:
            engine = self._opened()
            self._gpu.use()
            yield engine

    def _prepare(
        self, engine: Engine, feeds: Tensors, *, record: bool, profiler: api.IProfiler | None = None
    ) -> "TensorRtLaunch":
        config = None
        if self._kernels is not None:
            config = self._kernels.configuration(self._wishes, recorded=profiler is None)
            context = engine.handle.create_execution_context(config)
        else:
            context = engine.handle.create_execution_context()
        if context is None:
            raise CnnportError(engine.log.reason("the engine gives no context to run in"))
        if profiler is not None:
            context.profiler = profiler
            context.enqueue_emits_profile = False
        outputs = [spec.name for spec in self.outputs]
        launch = TensorRtLaunch(self._gpu, engine, context, feeds, outputs, (config, profiler))
        self._launches.add(launch)
        if record:
            launch.record()
        return launch


class TensorRtLaunch:
    """A run over buffers on the device, on a stream of its own."""

    def __init__(
        self,
        gpu: Gpu,
        engine: Engine,
        context: api.IExecutionContext,
        feeds: Tensors,
        outputs: list[str],
        kept: tuple[object, ...] = (),
    ) -> None:
        """Take over a context.

        Args:
            gpu: Current in this thread.
            engine: On it.
            context: Of the engine.
            feeds: They are copied.
            outputs: Names, in order.
            kept: What the context refers to and has to outlive it.

        Raises:
            FeedError: If the shapes are not what the engine was built for.
            CudaError: If there is no room.
        """
        self._gpu = gpu
        self._also_kept = kept
        self._outputs = outputs
        self._log = engine.log
        self._context: api.IExecutionContext | None = context
        self._buffers: dict[str, _Buffer] = {}
        self._recorded = 0
        self._stream = 0
        self._stream = gpu.stream()
        try:
            self._settle_shapes(engine, context, feeds)
            self.place(feeds)
        except BaseException:
            self.close()
            raise

    def __call__(self) -> None:
        """Start the run. Raises ``CnnportError`` if TensorRT refuses."""
        context = self._on_device()
        if self._recorded:
            self._gpu.replay(self._recorded, self._stream)
        elif not context.execute_async_v3(self._stream):
            raise CnnportError(f"TensorRT cannot run: {self._log.reason('it gives no reason')}")

    def wait(self) -> None:
        """Return when the run has finished. Raises ``CudaError`` if it failed."""
        self._on_device()
        self._gpu.wait(self._stream)

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last run."""
        self._on_device()
        buffers = {name: self._buffers[name] for name in self._outputs}
        return {
            name: self._gpu.to_host(each.address, each.shape, each.dtype, self._stream)
            for name, each in buffers.items()
        }

    def device_clock(self) -> DeviceClock:
        """The device's clock on the stream of this launch. Raises ``CudaError``."""
        self._on_device()
        inputs = [each.place for name, each in self._buffers.items() if name not in self._outputs]
        outputs = [self._buffers[name].place for name in self._outputs]
        return DeviceClock(self._gpu, inputs, lambda: outputs, stream=self._stream)

    def place(self, feeds: Tensors) -> None:
        """Copy other feeds of the same shapes to the device."""
        self._on_device()
        for name, array in feeds.items():
            self._gpu.to_device(self._buffers[name].address, np.ascontiguousarray(array), self._stream)

    def record(self) -> None:
        """Record one run, to be replayed from now on. Raises ``CnnportError`` if that cannot be done."""
        # The first run allocates and compiles, which no recording may.
        self()
        self.wait()
        self._gpu.begin_recording(self._stream)
        try:
            try:
                self()
            finally:
                self._recorded = self._gpu.end_recording(self._stream)
        except CnnportError as error:
            self.close()
            raise CnnportError(
                f"the run cannot be recorded ({first_line(error)}): leave out --set cuda_graph=1"
            ) from error

    def report(self) -> None:
        """Have the profiler told of the run that has just finished. Raises ``CnnportError`` if there is none."""
        if self._context is None or not self._context.report_to_profiler():
            raise CnnportError(f"TensorRT reports no times: {self._log.reason('it gives no reason')}")

    def close(self) -> None:
        """Free context, recording, buffers and stream; a second call does nothing."""
        if not self._stream:
            return
        stream, self._stream = self._stream, 0
        # Python may call this wherever it likes, in the middle of what the thread does on another device too.
        with self._gpu.borrowed():
            # What failed in a run fails again here, and was told then.
            with suppress(CudaError):
                self._gpu.wait(stream)
            if self._recorded:
                self._gpu.end_replay(self._recorded)
            self._recorded = 0
            self._context = None
            self._also_kept = ()
            for each in self._buffers.values():
                self._gpu.free(each.address)
            self._buffers.clear()
            self._gpu.end_stream(stream)

    def __del__(self) -> None:
        # A launch that nobody holds would keep its memory until the session goes.
        self.close()

    def _on_device(self) -> api.IExecutionContext:
        """The context, and this thread on its device. Raises ``ValueError`` if the session is closed."""
        if self._context is None:
            raise ValueError("the session is closed")
        self._gpu.use()
        return self._context

    def _settle_shapes(self, engine: Engine, context: api.IExecutionContext, feeds: Tensors) -> None:
        profile = engine.profile_for({name: array.shape for name, array in feeds.items()})
        # The first is chosen by itself only in the first of several contexts.
        if not context.set_optimization_profile_async(profile, self._stream):
            raise CnnportError(self._log.reason(f"optimisation profile {profile} cannot be taken"))
        self._gpu.wait(self._stream)
        for name, array in feeds.items():
            if not context.set_input_shape(name, tuple(array.shape)):
                raise FeedError(self._log.reason(f"shape {array.shape} of input {name!r} is refused"))
        if missing := context.infer_shapes():
            raise FeedError(f"TensorRT cannot tell the shapes of {', '.join(missing)}")
        for each in engine.tensors:
            shape = tuple(context.get_tensor_shape(each.name))
            if any(size < 0 for size in shape):
                raise FeedError(f"the size of output {each.name!r} depends on the values of the inputs")
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(each.dtype).itemsize
            buffer = _Buffer(self._gpu.allocate(size), shape, each.dtype)
            self._buffers[each.name] = buffer
            if not context.set_tensor_address(each.name, buffer.address):
                raise CnnportError(self._log.reason(f"the address of {each.name!r} is refused"))


@dataclass(frozen=True)
class _Buffer:
    """Memory on the device for one input or output."""

    address: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def place(self) -> tuple[int, int]:
        """Address and bytes."""
        return self.address, int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class _Kernels:
    """How RTX makes contexts, and the kernels that it compiled on this device, kept from session to session."""

    def __init__(self, engine: Engine, slot: Slot | None) -> None:
        self._engine = engine
        self._slot = slot
        self._cache = engine.handle.create_runtime_config().create_runtime_cache()
        entry = slot.read() if slot is not None else None
        self._before = entry.data if entry is not None else b""
        if self._before and not self._cache.deserialize(self._before):
            self._before = b""

    def configuration(self, wishes: Wishes, *, recorded: bool) -> api.IRuntimeConfig:
        """For one context."""
        trt, config = self._engine.trt, self._engine.handle.create_runtime_config()
        strategies, kinds = trt.CudaGraphStrategy, trt.DynamicShapesKernelSpecializationStrategy
        whole = wishes.cuda_graph and recorded
        config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if whole else strategies.DISABLED
        config.dynamic_shapes_kernel_specialization_strategy = {
            "eager": kinds.EAGER,
            "lazy": kinds.LAZY,
            "none": kinds.NONE,
        }[wishes.specialize]
        config.set_runtime_cache(self._cache)
        return config

    def keep(self) -> None:
        """Store what was compiled since, if there is anywhere to."""
        if self._slot is None:
            return
        data = bytes(self._cache.serialize())
        if data != self._before:
            with self._slot.held():
                self._slot.write(data)


def _check_tensors(artifact: Artifact, engine: Engine) -> None:
    for spec in (*artifact.inputs, *artifact.outputs):
        found = next((each for each in engine.tensors if each.name == spec.name), None)
        if found is None or found.dtype != spec.dtype:
            got = f"is of type {found.dtype}" if found else "is missing"
            raise ArtifactError(f"{artifact.path}: {spec} {got} in the engine")
