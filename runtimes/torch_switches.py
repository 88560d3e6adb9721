"""What PyTorch holds for the whole process, and sessions want each in their own way."""

import os
import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Switches:
    """The state that a session's runs are made in.

    Sessions that want different states may take turns in one thread; in several threads at once they would be in each
    other's way.

    Attributes:
        threads: Inside one operator; None for as many as PyTorch chose when it was imported.
        deterministic: Whether an operator that cannot give the same bits every time is an error.
        tf32: Whether CUDA may multiply float32 with 10 bits of mantissa.
        cudnn_benchmark: Whether cuDNN times its algorithms for every new shape and takes the fastest.
    """

    threads: int | None = None
    deterministic: bool = False
    tf32: bool = False
    cudnn_benchmark: bool = False

    def take_effect(self) -> None:
        """Put the process into this state; it costs next to nothing where it is in it already."""
        if _State.now is not self:
            if _State.now != self:
                self._set()
            _State.now = self

    def _set(self) -> None:
        import torch

        if _State.threads is None:
            _State.threads = torch.get_num_threads()
        torch.set_num_threads(self.threads or _State.threads)
        if self.deterministic:
            # cuBLAS reads this when it is first used, and PyTorch refuses to go on without it.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(self.deterministic)
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        with warnings.catch_warnings():
            # Both families of names are documented; a process that mixes them cannot be compiled for.
            warnings.simplefilter("ignore")
            torch.backends.cuda.matmul.allow_tf32 = self.tf32
            torch.backends.cudnn.allow_tf32 = self.tf32


class _State:
    """The state that was set last, and PyTorch's own number of threads."""

    now: Switches | None = None
    threads: int | None = None
