"""How Sphinx makes a site of these pages and of the docstrings: ``make docs``, with warnings as errors."""

from cnnport import __version__

project = "cnnport"
release = __version__
# Nothing of the time or the machine is in the pages.
html_last_updated_fmt = None
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["images/*", "*.json"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "cnnport"
html_static_path: list[str] = []

autodoc_member_order = "bysource"
# Signatures name types that are imported for type checkers alone; they are shown as they are written.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
