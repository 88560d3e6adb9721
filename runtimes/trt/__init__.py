"""TensorRT and TensorRT-RTX: one adapter over two packages that share one API."""

from cnnport.runtimes.trt.adapter import TensorRtRuntime

__all__ = ["TensorRtRuntime"]
