"""What the user may choose, as openvino's properties, and the check that openvino does what they say."""

from dataclasses import dataclass
from typing import Any

from cnnport.errors import CnnportError, RuntimeMissingError
from cnnport.runtimes.openvino import package
from cnnport.runtimes.protocol import Options
from cnnport.runtimes.settings import Setting, settle

NAME = "openvino"

SETTINGS = (
    Setting("device", "CPU", "where it runs; GPU is one of Intel's", ("CPU", "GPU")),
    Setting("hint", "latency", "what openvino arranges its threads for", ("latency", "throughput")),
    Setting("streams", "", "runs that go side by side and share the threads", ("N",)),
    Setting("batch", "", "the one batch size to compile for, which makes it faster; else any", ("N",)),
    Setting("precision", "f32", "what floating point is computed in", ("f32", "bf16", "f16")),
    # A worker stays pinned to the CPU that it was given when the session that asked for it is closed, and
    # disturbs every later one; a benchmark pins the whole process.
    Setting(
        "pinning", "0", "pin each thread to a CPU of its own, for as long as the process lives", ("0", "1")
    ),
    Setting("cache", "0", "keep what was compiled for the next time", ("0", "1")),
)


@dataclass(frozen=True)
class Choices:
    """How a network is compiled.

    Attributes:
        device: As openvino calls it.
        properties: Of openvino's, by name, for this compilation.
        settings: What a file of the compiled network has to say of them; ``cache`` is none of it.
        batch: The only batch size; None for any.
        cache: Whether what was compiled is kept.
    """

    device: str
    properties: dict[str, str | int | bool]
    settings: dict[str, str]
    batch: int | None
    cache: bool


def choose(options: Options) -> Choices:
    """Openvino's properties for the options and settings of a session.

    ``optimize=False`` asks for the execution mode ACCURACY, which is all that openvino offers: its rewriting of the
    graph cannot be switched off. On a GPU, threads are its driver's own affair.

    Raises:
        RuntimeMissingError: If there is no device of that kind and number.
        CnnportError: If a setting is unknown or has a value that it does not take, or openvino cannot promise what
            was asked for.
    """
    settings = settle(NAME, SETTINGS, options.settings)
    told = {name: value for name, value in settings.values.items() if value and name != "cache"}
    kind = settings.text("device")
    device = _device(kind, options.device)
    properties: dict[str, str | int | bool] = {
        "PERFORMANCE_HINT": settings.text("hint").upper(),
        # Left to itself openvino computes in bf16, or f16, wherever the device is faster in it.
        "INFERENCE_PRECISION_HINT": settings.text("precision"),
        "EXECUTION_MODE_HINT": "PERFORMANCE" if options.optimize else "ACCURACY",
    }
    batch, streams = settings.number("batch"), settings.number("streams")
    for name, number in (("batch", batch), ("streams", streams)):
        if number == 0:
            raise CnnportError(f"setting {name} must be at least 1")
    if streams is not None:
        properties["NUM_STREAMS"] = streams
    if kind == "GPU":
        if options.deterministic:
            raise CnnportError(f"{NAME} does not promise the same bits on a GPU: use --set device=CPU")
        return Choices(device, properties, told, batch, settings.flag("cache"))
    properties["ENABLE_CPU_PINNING"] = settings.flag("pinning")
    if options.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = options.threads
        # Otherwise no more threads than cores would be used, however many were asked for.
        properties["ENABLE_HYPER_THREADING"] = True
    if options.deterministic:
        # Work that is dealt out beforehand is summed in the same order in every run.
        properties["TBB_PARTITIONER"] = "STATIC"
    return Choices(device, properties, told, batch, settings.flag("cache"))


def check(compiled: Any, choices: Choices) -> None:
    """Hold what openvino says of a compiled network against what was asked for: some of it, it changes silently.

    Raises:
        CnnportError: If it departs, with what it is and what it was to be.
    """
    for name, word, advice in (
        (
            "INFERENCE_PRECISION_HINT",
            "computes in {} there",
            "--set precision takes what the device can: f32 always",
        ),
        ("INFERENCE_NUM_THREADS", "uses {} threads", "it takes no more than there are CPUs for this process"),
        ("NUM_STREAMS", "makes {} streams", "it takes no more than there are threads"),
        ("TBB_PARTITIONER", "divides work by {}", "so the same bits in every run cannot be promised"),
    ):
        if name not in choices.properties:
            continue
        want, got = str(choices.properties[name]), _text(compiled.get_property(name))
        if got != want:
            raise CnnportError(f"{NAME} {word.format(got)}, not {want} as asked for: {advice}")


def _device(kind: str, number: int) -> str:
    found = package.devices(kind)
    if number < len(found):
        return found[number]
    if kind == "GPU" and not found:
        raise RuntimeMissingError(
            f"{NAME} finds no GPU here: it needs one of Intel's and its driver (apt install intel-opencl-icd)"
        )
    listing = ", ".join(f"{place} is {package.full_name(name)}" for place, name in enumerate(found))
    raise RuntimeMissingError(f"{NAME} has no {kind} number {number} here: {listing}")


def _text(value: Any) -> str:
    """A property as it is written when it is set: types and enumerations come back as objects."""
    if hasattr(value, "get_type_name"):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))
