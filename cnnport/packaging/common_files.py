"""The files that every package has."""

from cnnport.packaging.kinds import Content
from cnnport.packaging.subject import Subject
from cnnport.packaging.templates import template_files
from cnnport.packaging.texts import labels_file, paragraphs


def common_files(subject: Subject) -> dict[str, Content]:
    """Licence, whose the weights are, and the names of the classes where there are any, by name in the package."""
    labels = labels_file(subject)
    return {
        "LICENSE": template_files("common")["LICENSE"],
        "NOTICE.txt": f"{paragraphs(subject.licence)}\n".encode(),
        **({} if labels is None else {"labels.txt": labels}),
    }
