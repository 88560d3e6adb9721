"""Which runtimes cannot compute picture files, and why: each in one line."""

from cnnport.artifact import Artifact

_NO_ANTIALIAS = {
    "openvino": "OpenVINO leaves out the antialias of Resize without a word",
    "trt": "TensorRT has no antialias in its Resize",
    "trt-rtx": "TensorRT has no antialias in its Resize",
}
_PYTORCH = frozenset({"torch-cpu", "torch-cuda"})


def picture_misfit(artifact: Artifact, runtime: str) -> str | None:
    """Why a runtime cannot take a picture file; None if it can, and for all other files. Raises ``ArtifactError``."""
    if "cnnport.picture" not in artifact.metadata:
        return None
    from cnnport.metadata import picture_of

    picture = picture_of(artifact)
    if runtime in _PYTORCH:
        return f"{artifact.path} takes pictures, and PyTorch runs the network alone: give it the network's own file"
    if picture is not None and picture.preprocess == "full" and runtime in _NO_ANTIALIAS:
        return (
            f"{_NO_ANTIALIAS[runtime]}, with which {artifact.path} scales pictures: "
            "take a file with --preprocess normalize"
        )
    return None
