"""What a program calls: the commands as functions, with the same names, which return data and print nothing.

Each is also an attribute of the package, loaded when it is first asked for: ``cnnport.export`` is ``api.export``. The
commands are thin users of these functions. A *model* is what the command line takes (a name of the zoo,
``timm:NAME``, ``torchvision:NAME``, ``package.module:callable``, the path of an ONNX file or of an engine) or an
``Artifact``; only ``export`` takes PyTorch objects too.

Every function raises ``cnnport.CnnportError`` or one of its subclasses, whose text is one or two lines that say what
is wrong and what to do: ``CheckFailedError`` where a check found something, ``RuntimeMissingError`` where a runtime
is not available.
"""

from cnnport.api.comparing import evaluate, parity, verify
from cnnport.api.making import export, optimize, quantize
from cnnport.api.models import Model
from cnnport.api.running import bench, load

__all__ = ["Model", "bench", "evaluate", "export", "load", "optimize", "parity", "quantize", "verify"]
