"""A package for Python: a module of one file that needs numpy and onnxruntime, and a test of it."""

from io import BytesIO

import numpy as np

from cnnport.packaging.common_files import common_files
from cnnport.packaging.kinds import Content
from cnnport.packaging.manifest import MODEL_FILE
from cnnport.packaging.subject import Subject
from cnnport.packaging.templates import filled, template_files
from cnnport.packaging.texts import values_of


def files(subject: Subject) -> dict[str, Content]:
    """The files by their names in the package."""
    made: dict[str, Content] = {**template_files("python"), **common_files(subject)}
    example = BytesIO()
    # Without Pillow there is no reading the example as a picture.
    np.save(example, np.ascontiguousarray(subject.example.pixels), allow_pickle=False)
    readme = template_files("python")["README.md"]
    return {
        **made,
        "README.md": filled(readme, values_of(subject)),
        "example.npy": example.getvalue(),
        MODEL_FILE: subject.artifact.path,
    }
