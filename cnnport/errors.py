"""The errors that cnnport raises on purpose, each with the exit code that the command line gives it.

Every message is one or two lines: what is wrong, then what to do. Anything else that escapes is a bug.
"""


class CnnportError(Exception):
    """Wrong usage or bad input; the base of all of cnnport's own errors. Exit code 2."""

    exit_code = 2


class CheckFailedError(CnnportError):
    """A check ran and said no: a mismatch, a regression, a bad checksum. Exit code 1."""

    exit_code = 1


class UnknownNameError(CnnportError):
    """A model, pass or runtime name that does not exist."""


class ModelError(CnnportError):
    """A network cannot be built or run as asked: too small an image, no classes, a bad callable."""


class WeightsError(CnnportError):
    """Weights cannot be had, read, or loaded into the network."""


class ImageError(CnnportError):
    """An image cannot be read, or is not one."""


class ArtifactError(CnnportError):
    """A file is not an ONNX model that can be used here."""


class FeedError(CnnportError):
    """Input tensors do not fit the model: names, number, type or shape."""


class OutputError(CnnportError):
    """A result cannot be written: the target exists, is not writable, or the disk is full."""


class RuntimeMissingError(CnnportError):
    """A runtime that was asked for is not available here. Exit code 3."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class if it has none; for messages that quote a library."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
