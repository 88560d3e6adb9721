"""Exported files at home in other people's applications: folders that hold the model and all that running it takes.

``package`` directs; ``subject`` is what a package is made of, ``kinds`` the table of what it can be made for, each
with a module that gives its files; ``manifest`` is what a package says of itself, ``licence`` whose it is,
``example`` a picture with the answer that is expected; ``folder`` writes all of it whole or not at all.
"""

from cnnport.packaging.kinds import KINDS
from cnnport.packaging.packing import Packaged, package
from cnnport.packaging.subject import Example, Subject

__all__ = ["KINDS", "Example", "Packaged", "Subject", "package"]
