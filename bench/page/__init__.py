"""Results as one HTML page that works without a network and without scripts: ``make_page`` and ``write_page``.

The numbers go from ``documents`` (reading) over one module for each kind of result, which makes figures of them, to
``page``. ``charts`` describes drawings, ``draw`` draws them.
"""

from cnnport.measuring.page.documents import DocumentError
from cnnport.measuring.page.draw import ReportExtraMissingError, require_extra
from cnnport.measuring.page.page import make_page, write_page

__all__ = ["DocumentError", "ReportExtraMissingError", "make_page", "require_extra", "write_page"]
