"""A process that builds an engine over TensorRT's stand-in: ``python build_engine.py FILE MARK WHERE``.

It touches MARK when it comes to WHERE, ``build`` or ``write``, and goes on a minute later, long enough to be killed
there; ``none`` does not stop. It prints how many builds it made.
"""

import sys
import time
from pathlib import Path

import pytest

from cnnport import files
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, get_runtime
from fake_tensorrt import install


def main() -> None:
    file, mark, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    def stop(*_: object) -> None:
        mark.touch()
        time.sleep(60)

    with pytest.MonkeyPatch.context() as patch:
        trt = install(patch, None, rtx=True)
        if where == "build":
            trt.during_build = stop
        if where == "write":
            patch.setattr(files.os, "fsync", stop)
        get_runtime("trt-rtx").build(read_artifact(file), file.with_suffix(f".{mark.name}.plan"), Options())
        print(trt.calls.count("build_serialized_network"))  # noqa: T201


if __name__ == "__main__":
    main()
