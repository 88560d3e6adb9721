"""How onnxruntime is installed: several packages bring it, into one folder, each over the files of the others."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from cnnport.errors import first_line

_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)


def import_failure(extra: str, package: str) -> str | None:
    """Why onnxruntime cannot be imported, and the command that installs it; None if it can."""
    if find_spec("onnxruntime") is None:
        return f"onnxruntime is not installed: pip install 'cnnport[{extra}]'"
    try:
        import onnxruntime  # noqa: F401
    except (ImportError, AttributeError) as error:
        # Half an installation, or two in one folder, shows here and not before.
        return f"onnxruntime does not import ({first_line(error)}): pip install --force-reinstall {package}"
    return None


def packages_in_one_folder() -> tuple[str, ...]:
    """The packages whose files lie where ``onnxruntime`` is imported from; more than one is a mixture."""
    spec = find_spec("onnxruntime")
    folders = {Path(each).resolve() for each in (spec and spec.submodule_search_locations) or []}
    found = []
    for name in _PACKAGES:
        try:
            place = metadata.distribution(name).locate_file("onnxruntime")
        except metadata.PackageNotFoundError:
            continue
        if Path(str(place)).resolve() in folders:
            found.append(name)
    return tuple(found)


def cuda_provider_failure(provider: str) -> str | None:
    """Why onnxruntime as it is installed has no CUDA, and the command that puts it right; None if it has."""
    together = packages_in_one_folder()
    if len(together) > 1:
        return (
            f"{' and '.join(together)} overwrite each other: "
            f"pip uninstall -y {' '.join(together)} && pip install 'cnnport[cuda]'"
        )
    if failure := import_failure("cuda", "onnxruntime-gpu"):
        return failure
    import onnxruntime

    if provider in onnxruntime.get_available_providers():
        return None
    package = together[0] if together else "onnxruntime"
    return (
        f"{package} {onnxruntime.__version__} is built without CUDA: "
        f"pip uninstall -y {package} && pip install 'cnnport[cuda]'"
    )
