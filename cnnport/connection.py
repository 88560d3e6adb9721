"""Open an address over HTTP within a time limit that also holds for name resolution, or say why not in words.

``getaddrinfo`` knows no time limit and a host has many addresses, each of which is tried for the whole of a socket's
own limit. Connecting therefore runs in a thread of its own, which is left behind when the time is up.
"""

import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnnport.errors import first_line

if TYPE_CHECKING:
    import httpx

_SILENCE_S = 20.0
_REDIRECTS = 10


class BrokenConnectionError(Exception):
    """The server cannot be reached, or the transfer stopped; the message is the reason."""


@contextmanager
def open_url(
    url: str, headers: Mapping[str, str], connect_timeout_s: float
) -> "Iterator[tuple[httpx.Response, Iterator[bytes]]]":
    """Request ``url`` with GET, following redirects and the proxies of the environment.

    Args:
        url: An http or https address.
        headers: Additional header fields.
        connect_timeout_s: Limit for name resolution, connecting and TLS together, over all redirects.

    Yields:
        The response, of whatever status, and its body, which raises ``BrokenConnectionError`` when it breaks off.

    Raises:
        BrokenConnectionError: If there is no response.
    """
    import httpx

    try:
        # Nothing is kept alive, so that closing the response closes the socket, in whichever thread that happens.
        client = httpx.Client(
            timeout=httpx.Timeout(_SILENCE_S, connect=connect_timeout_s),
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        # Lengths and ranges count the bytes of the file only if it is sent as it is.
        request = client.build_request("GET", url, headers={"Accept-Encoding": "identity", **headers})
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        # ImportError: the environment names a SOCKS proxy, which takes an optional package.
        raise BrokenConnectionError(
            f"the address or a proxy setting is wrong: {first_line(error)}"
        ) from error
    left_s = connect_timeout_s
    for _ in range(_REDIRECTS + 1):
        if request.url.scheme not in {"http", "https"} or not request.url.host:
            raise BrokenConnectionError("only http and https addresses with a host can be fetched")
        response, connected_s = _send(client, request, left_s)
        if response.next_request is None:
            break
        response.close()
        left_s -= connected_s
        request = response.next_request
    else:
        raise BrokenConnectionError(f"more than {_REDIRECTS} redirects")
    try:
        yield response, _body(response)
    finally:
        response.close()


def _send(client: "httpx.Client", request: "httpx.Request", limit_s: float) -> "tuple[httpx.Response, float]":
    """Get the response to one request, and the seconds until the connection stood."""
    import httpx

    outcome: queue.SimpleQueue[httpx.Response | Exception] = queue.SimpleQueue()
    connected, abandoned = threading.Event(), threading.Event()

    def trace(event: str, _details: object) -> None:
        if event.endswith("send_request_headers.started"):
            connected.set()

    def work() -> None:
        try:
            result: httpx.Response | Exception = client.send(request, stream=True, follow_redirects=False)
        except Exception as error:  # handed to the thread that waits
            result = error
        outcome.put(result)
        connected.set()
        if abandoned.is_set() and isinstance(result, httpx.Response):
            result.close()

    request.extensions = {**request.extensions, "trace": trace}
    start_s = time.monotonic()
    threading.Thread(target=work, name="cnnport-connect", daemon=True).start()
    if not connected.wait(max(0.0, limit_s)):
        abandoned.set()
        raise BrokenConnectionError(f"{request.url.host} did not answer in time")
    connected_s = time.monotonic() - start_s
    result = outcome.get()
    if isinstance(result, Exception):
        raise BrokenConnectionError(_reason(result, request.url.host)) from result
    return result, connected_s


def _body(response: "httpx.Response") -> Iterator[bytes]:
    import httpx

    try:
        yield from response.iter_raw()
    except httpx.TransportError as error:
        raise BrokenConnectionError(_reason(error, response.url.host)) from error


def _reason(error: Exception, host: str) -> str:
    """What went wrong, from the innermost cause that says it."""
    import httpx

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    for cause in reversed(causes):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"the certificate of {host} is not valid: {cause.verify_message}"
            case ssl.SSLError():
                return f"no TLS connection to {host}: {cause.reason or first_line(cause)}"
            case socket.gaierror():
                return f"{host} cannot be resolved: is this machine online?"
            case ConnectionRefusedError():
                return f"{host} refuses the connection"
            case TimeoutError() | httpx.TimeoutException():
                return f"{host} does not answer"
            case ConnectionResetError() | httpx.RemoteProtocolError():
                return f"{host} closed the connection"
            case OSError() if cause.strerror:
                return f"no connection to {host}: {cause.strerror}"
    return f"no connection to {host}: {first_line(error)}"
