"""A folder on a server for static files, for as long as it takes: on this machine alone, at a port that is free."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass
class Site:
    """A folder that is served.

    Attributes:
        address: Of the folder, with a slash at the end.
        asked: What was asked for, in the order of arrival: path and query.
    """

    address: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(folder: Path, *, below: str = "", headers: Mapping[str, str] = NO_HEADERS) -> Iterator[Site]:
    """Serve a folder.

    Args:
        folder: What to serve.
        below: Name of a folder that it seems to lie in; empty for the server's root.
        headers: Sent with every answer.

    Yields:
        The site; afterwards connections are refused.
    """
    prefix = f"/{below}/" if below else "/"
    site = Site("")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            self.path = f"/{self.path.removeprefix(prefix)}"
            super().do_GET()

        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    site.address = f"http://127.0.0.1:{server.server_port}{prefix}"
    thread = threading.Thread(target=server.serve_forever, name="cnnport-loopback", daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
