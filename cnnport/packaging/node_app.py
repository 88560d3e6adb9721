"""A package for Node.js: an ES module with types, which decodes pictures itself, a command and an HTTP server."""

import json
from typing import Any

from cnnport.packaging.common_files import common_files
from cnnport.packaging.kinds import Content
from cnnport.packaging.manifest import MODEL_FILE
from cnnport.packaging.subject import Subject
from cnnport.packaging.templates import filled, template_files
from cnnport.packaging.texts import values_of, what


def files(subject: Subject) -> dict[str, Content]:
    """The files by their names in the package."""
    templates = template_files("node")
    stated = json.loads(templates["package.json"])
    lock = json.loads(templates["package-lock.json"])
    stated["name"] = lock["name"] = lock["packages"][""]["name"] = subject.name
    stated["description"] = what(subject)
    return {
        **templates,
        **common_files(subject),
        "README.md": filled(templates["README.md"], values_of(subject)),
        "package.json": _text(stated),
        "package-lock.json": _text(lock),
        MODEL_FILE: subject.artifact.path,
    }


def _text(document: dict[str, Any]) -> bytes:
    # As npm writes it: it would rewrite what looks otherwise.
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
