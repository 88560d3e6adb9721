"""Files: exported from PyTorch, optimised, in 8 bits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport.api.models import OnDownload, OnProgress, OnStep, ignore
from cnnport.errors import CnnportError
from cnnport.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

    from cnnport.exporting import Exported
    from cnnport.measuring.speed_check import SpeedCheck
    from cnnport.optimize_file import Optimized
    from cnnport.quantization import Quantized


def export(
    model: "str | nn.Module | Callable[..., nn.Module]",
    path: str | Path | None = None,
    *,
    weights: str = "auto",
    seed: int = 0,
    opset: int = 20,
    batch: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    precision: str = "fp32",
    target: str | None = None,
    calibration: str | None = None,
    max_drop: float | None = None,
    passes: str | None = None,
    io_dtype: str = "fp32",
    dense: bool = False,
    labels: Sequence[str] | None = None,
    pictures: Preprocess | None = None,
    preprocess: str = "none",
    layout: str = "nhwc",
    overwrite: bool = False,
    on_step: OnStep = ignore,
    on_progress: OnProgress = ignore,
    on_download: OnDownload | None = None,
) -> "Exported":
    """Export a network as one verified ONNX file.

    Args:
        model: A network by name, a ``torch.nn.Module``, or a callable that makes one.
        path: The file to write; None for ``NAME.onnx`` in the current folder.
        weights: ``auto`` (official ones where they can be had, else random ones; a network of your own keeps its
            own), ``default``, ``random``, a .pth or .safetensors file, or a URL.
        seed: Of random weights.
        opset: Version of the default operator set.
        batch: A fixed batch size; None leaves the batch open.
        image_size: In pixels, one number or height and width; None for the network's own.
        num_classes: None for the network's own.
        in_channels: None for the network's own.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        target: ``ort``, ``cuda``, ``trt`` or ``openvino``; None for a file for any runtime, and ``ort`` for int8.
        calibration: Samples on which ranges are found: a folder, ``digits``, or ``random:N``; int8 needs some.
        max_drop: For int8, points of accuracy that may be lost.
        passes: Graph passes beside or instead of the target's: ``none`` or ``+name,-name``.
        io_dtype: ``fp32``, or ``fp16`` for float16 inputs and outputs of a float16 file.
        dense: Whether to export the fully convolutional form.
        labels: Names of the classes, for the file to state; None for those that the network has.
        pictures: How a picture becomes the input, likewise.
        preprocess: What of that goes into the file, with softmax and the best classes behind the network: ``none``;
            ``normalize``, for uint8 pictures of the network's size; ``full``, for those of any size.
        layout: Of such pictures: ``nhwc`` or ``nchw``.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.
        on_progress: Told how many samples of a calibration are done, and how many there are.
        on_download: Told the bytes so far and in all while weights are fetched.

    Raises:
        CnnportError: On wrong usage or input.
        CheckFailedError: If the file would not compute what PyTorch computes. Nothing is written.
        RuntimeMissingError: If onnxruntime, which verifies, is not installed.
    """
    from cnnport.export_calibrated import export_calibrated
    from cnnport.export_picture import export_picture
    from cnnport.exporting import default_path
    from cnnport.exporting import export as export_floats
    from cnnport.graphs.passes import TARGETS, select_passes
    from cnnport.source import described, find_source

    if precision == "int8" and calibration is None:
        raise CnnportError(
            "int8 needs samples to find ranges on: --calibration DIR, digits, or random:N, from which no claim of "
            "accuracy follows"
        )
    if max_drop is not None and precision != "int8":
        raise CnnportError(f"--max-drop is for --precision int8, not {precision}")
    goal = target or ("ort" if precision == "int8" else TARGETS[0])
    options: dict[str, Any] = {
        "weights": weights,
        "seed": seed,
        "opset": opset,
        "batch": batch,
        "image_size": (image_size, image_size) if isinstance(image_size, int) else image_size,
        "num_classes": num_classes,
        "in_channels": in_channels,
        "passes": select_passes(passes, goal),
        "target": goal,
        "io_dtype": io_dtype,
        "dense": dense,
        "overwrite": overwrite,
        "on_step": on_step,
        "on_download": on_download,
    }
    source = described(find_source(model), labels=labels, pictures=pictures)
    place = Path(path) if path is not None else default_path(source)

    def make(place: Path, **more: Any) -> "Exported":
        if calibration is None:
            return export_floats(source, place, precision=precision, **options, **more)
        return export_calibrated(
            source,
            place,
            precision,
            calibration,
            max_drop=max_drop,
            on_progress=on_progress,
            **options,
            **more,
        )

    if preprocess == "none":
        if layout != "nhwc":
            raise CnnportError(
                f"--layout {layout} is for --preprocess normalize or full: other files take NCHW"
            )
        return make(place)
    return export_picture(
        lambda own, tell: make(own, on_network=tell),
        source,
        place,
        mode=preprocess,
        layout=layout,
        options=options,
    )


def optimize(
    file: str | Path,
    path: str | Path | None = None,
    *,
    passes: str | None = None,
    target: str | None = None,
    freeze: bool = False,
    costs: bool = False,
    overwrite: bool = False,
    on_step: OnStep = ignore,
) -> "Optimized":
    """Optimise any ONNX file; each pass is checked against the file itself and undone if it departs.

    Args:
        file: Of opset 9 or newer; its weights may lie in other files.
        path: The file to write; None for ``NAME.opt.onnx`` beside it.
        passes: As of ``export``.
        target: As of ``export``; None for the one that the file states, or any runtime.
        freeze: Whether initializers that are also inputs become constants.
        costs: Whether to count what each pass saves.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.

    Raises:
        CnnportError: On wrong usage or input.
        CheckFailedError: If the result departs from the file. Nothing is written.
        RuntimeMissingError: If onnxruntime, which verifies, is not installed.
    """
    from cnnport.optimize_file import default_path, optimize_file

    return optimize_file(
        Path(file),
        Path(path) if path is not None else default_path(Path(file)),
        passes=passes,
        target=target,
        freeze_initializers=freeze,
        costs=costs,
        overwrite=overwrite,
        on_step=on_step,
    )


def quantize(
    file: str | Path,
    path: str | Path | None = None,
    *,
    calibration: str | Path,
    target: str = "ort",
    method: str | None = None,
    percentile: float | None = None,
    max_drop: float | None = None,
    repair: bool = True,
    reduce_range: bool = False,
    layers: bool = False,
    speed: "SpeedCheck | None" = None,
    overwrite: bool = False,
    on_step: OnStep = ignore,
    on_progress: OnProgress = ignore,
) -> "Quantized":
    """Quantize a float32 file to int8; it is judged on samples of its own, and repaired where it loses too much.

    Args:
        file: Of opset 13 or newer.
        path: The file to write; None for ``NAME.int8.onnx`` beside it.
        calibration: A folder of pictures, or of .npy and .npz files, ``digits`` or ``random``; ``:N`` for so many.
        target: ``ort``, ``trt`` or ``openvino``: the runtime that the file is for.
        method: ``minmax``, ``entropy``, ``percentile`` or ``mse``; None for the one whose outputs are nearest.
        percentile: For that method.
        max_drop: Points of accuracy that may be lost, for which layers may stay in float.
        repair: Whether anything is tried where the plain form loses too much.
        reduce_range: Whether weights get 7 bits, for x86 CPUs without VNNI.
        layers: Whether the sensitivity of every layer is measured.
        speed: What measures it against float32, and may refuse it; None to leave that out.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.
        on_progress: Told how many samples or layers are done, and how many there are.

    Raises:
        CnnportError: On wrong usage or input.
        CheckFailedError: If it loses too much, or is not fast enough. Nothing is written.
        RuntimeMissingError: If onnxruntime is not installed.
    """
    from cnnport.graphs.quantize import require_target
    from cnnport.quantization import default_path, quantize_file

    require_target(target)
    more: dict[str, Any] = {} if speed is None else {"check": speed}
    return quantize_file(
        Path(file),
        Path(path) if path is not None else default_path(Path(file)),
        str(calibration),
        target=target,
        method=method,
        percentile=percentile,
        max_drop=max_drop,
        repair=repair,
        reduce_range=reduce_range,
        layers=layers,
        overwrite=overwrite,
        on_step=on_step,
        on_progress=on_progress,
        **more,
    )
