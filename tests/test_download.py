"""fetch against a real server on loopback: interruptions, lies, changes, refusals, and what is left behind."""

import errno
import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cnnport.download import fetch, public_url
from cnnport.errors import WeightsError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """What the server does, and which requests it got. ``cuts``: after how many bytes each response breaks off."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    honours_if_range: bool = True
    announces_length: bool = True
    shift: int = 0
    status: int = 200
    location: str | None = None
    encoding: str | None = None
    pause_s: float = 0.0
    cuts: list[int] = field(default_factory=list)
    requests: list[tuple[str | None, str | None]] = field(default_factory=list)

    @property
    def asked(self) -> list[str | None]:
        return [asked for asked, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        site.requests.append((asked, condition))
        time.sleep(site.pause_s)
        if site.location is not None and not self.path.startswith("/moved"):
            self.answer(302, {"Location": site.location}, b"")
        elif site.status != 200:
            self.answer(site.status, {}, b"<html>no</html>")
        else:
            same = condition is None or condition in {site.etag, site.modified} or not site.honours_if_range
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges and same else 0
            start += self.site.shift if start else 0
            total = len(site.content)
            if start >= total > 0:
                self.answer(416, {"Content-Range": f"bytes */{total}"}, b"")
                return
            headers = {"ETag": site.etag, "Last-Modified": site.modified, "Content-Encoding": site.encoding}
            if start:
                headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
            self.answer(206 if start else 200, headers, site.content[start:])

    def answer(self, status: int, headers: dict[str, str | None], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        if self.site.announces_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status in {200, 206} and self.site.cuts:
            body = body[: self.site.cuts.pop(0)]
        self.wfile.write(body)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    handler = type("OwnHandler", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}/net-1.pth"
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "net.pth"


def get(site: Site, target: Path, sha256: str = SHA256) -> Path:
    return fetch(site.url, target, sha256=sha256, connect_timeout_s=2)


def left(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8].upper(), ""])
def test_a_file_arrives_whole_and_alone(site: Site, target: Path, sha256: str) -> None:
    seen: list[tuple[int, int | None]] = []
    got = fetch(
        site.url, target, sha256=sha256, connect_timeout_s=2, report=lambda *state: seen.append(state)
    )
    assert got == target
    assert target.read_bytes() == CONTENT
    assert left(target) == {"net.pth"}
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_a_file_without_announced_length_arrives(site: Site, target: Path) -> None:
    site.announces_length = False
    assert get(site, target).read_bytes() == CONTENT


def test_an_existing_file_is_replaced(site: Site, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    assert get(site, target).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("etag", "modified", "sha256", "condition"),
    [
        ('"one"', None, "", '"one"'),
        (None, "Sat, 01 Nov 2025 10:00:00 GMT", "", "Sat, 01 Nov 2025 10:00:00 GMT"),
        ('W/"weak"', "Sat, 01 Nov 2025 10:00:00 GMT", "", "Sat, 01 Nov 2025 10:00:00 GMT"),
        (None, None, SHA256, None),
    ],
)
def test_a_broken_transfer_goes_on_where_it_stopped(
    site: Site, target: Path, etag: str | None, modified: str | None, sha256: str, condition: str | None
) -> None:
    site.etag, site.modified, site.cuts = etag, modified, [5000, 7000]
    assert get(site, target, sha256).read_bytes() == CONTENT
    assert site.requests == [(None, None), ("bytes=5000-", condition), ("bytes=12000-", condition)]
    assert left(target) == {"net.pth"}


def test_without_validator_and_hash_nothing_is_spliced(site: Site, target: Path) -> None:
    site.etag, site.cuts = None, [5000]
    assert get(site, target, "").read_bytes() == CONTENT
    assert site.asked == [None, None]


def test_a_server_without_ranges_starts_again(site: Site, target: Path) -> None:
    site.ranges, site.cuts = False, [5000]
    assert get(site, target).read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_a_transfer_that_keeps_breaking_ends_and_is_continued_by_the_next_call(
    site: Site, target: Path
) -> None:
    site.cuts = [1000] * 6
    with pytest.raises(
        WeightsError, match=f"6000 of {len(CONTENT)} bytes arrived; the next attempt"
    ) as caught:
        get(site, target)
    assert str(caught.value).count("\n") == 1
    assert not target.exists()
    assert left(target) == {"net.pth.part", "net.pth.part.json"}
    site.requests.clear()
    assert get(site, target).read_bytes() == CONTENT
    assert site.asked == ["bytes=6000-"]
    assert left(target) == {"net.pth"}


def test_a_part_that_nothing_can_continue_is_not_left(site: Site, target: Path) -> None:
    site.etag, site.cuts = None, [1000] * 6
    with pytest.raises(WeightsError, match=f"1000 of {len(CONTENT)} bytes arrived$"):
        get(site, target, "")
    assert left(target) == set()


def test_a_part_that_was_complete_needs_no_more_bytes(site: Site, target: Path) -> None:
    leave_part(site, target)
    (target.parent / "net.pth.part").write_bytes(CONTENT)
    assert get(site, target).read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_too_long_starts_again(site: Site, target: Path) -> None:
    leave_part(site, target)
    (target.parent / "net.pth.part").write_bytes(CONTENT + b"more")
    assert get(site, target).read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(CONTENT) + 4}-", None]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_not_spliced(
    site: Site, target: Path, honours_if_range: bool
) -> None:
    leave_part(site, target, "")
    site.content, site.etag, site.honours_if_range = CONTENT[::-1], '"two"', honours_if_range
    assert get(site, target, "").read_bytes() == CONTENT[::-1]
    assert site.requests[0] == ("bytes=1000-", '"one"')


def test_a_file_of_another_size_is_not_spliced(site: Site, target: Path) -> None:
    leave_part(site, target)
    site.content, site.honours_if_range = b"x" * 1500, False
    assert get(site, target, "").read_bytes() == b"x" * 1500


def test_a_piece_from_another_place_is_not_spliced(site: Site, target: Path) -> None:
    leave_part(site, target, "")
    site.shift = 64
    assert get(site, target, "").read_bytes() == CONTENT
    assert site.asked == ["bytes=1000-", None]


def test_a_part_from_another_address_is_not_continued(site: Site, target: Path) -> None:
    leave_part(site, target)
    site.url += "?other"
    assert get(site, target).read_bytes() == CONTENT
    assert site.asked == [None]


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b"\xff\xfe", b'{"address": 1}'])
def test_a_damaged_note_means_a_new_start(site: Site, target: Path, note: bytes) -> None:
    leave_part(site, target)
    (target.parent / "net.pth.part.json").write_bytes(note)
    assert get(site, target).read_bytes() == CONTENT
    assert site.asked == [None]


def test_damaged_bytes_in_a_part_are_fetched_again(site: Site, target: Path) -> None:
    leave_part(site, target)
    (target.parent / "net.pth.part").write_bytes(b"?" * 1000)
    assert get(site, target).read_bytes() == CONTENT
    assert site.asked == ["bytes=1000-", None]


def test_a_wrong_hash_leaves_nothing_and_keeps_the_old_file(site: Site, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    site.content = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    got = hashlib.sha256(site.content).hexdigest()
    with pytest.raises(
        WeightsError, match=f"is not the expected file\nexpected SHA-256 {SHA256}, got {got}$"
    ):
        get(site, target)
    assert target.read_bytes() == b"old"
    assert left(target) == {"net.pth"}
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_is_named(site: Site, target: Path, status: int) -> None:
    site.status = status
    with pytest.raises(WeightsError, match=f"the server answers {status} ") as caught:
        get(site, target)
    assert "\n" not in str(caught.value)
    assert left(target) == set()


def test_a_refusal_does_not_cost_the_part(site: Site, target: Path) -> None:
    leave_part(site, target)
    site.status = 503
    with pytest.raises(WeightsError, match="503"):
        get(site, target)
    site.status = 200
    site.requests.clear()
    assert get(site, target).read_bytes() == CONTENT
    assert site.asked == ["bytes=1000-"]


def test_redirects_are_followed(site: Site, target: Path) -> None:
    site.location = "/moved/net.pth"
    assert get(site, target).read_bytes() == CONTENT
    assert len(site.requests) == 2


@pytest.mark.parametrize(
    ("location", "message"),
    [("/again", "more than 10 redirects"), ("file:///etc/passwd", "only http and https")],
)
def test_redirects_that_lead_nowhere(site: Site, target: Path, location: str, message: str) -> None:
    site.location = location
    with pytest.raises(WeightsError, match=message):
        get(site, target)
    assert left(target) == set()


def test_all_redirects_share_one_limit(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def slow(*args: object, **kwargs: object) -> object:
        time.sleep(0.15)
        return resolve(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    site.location = "/again"
    before = set(threading.enumerate())
    with pytest.raises(WeightsError, match="did not answer in time"):
        fetch(site.url, target, connect_timeout_s=0.5)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


def test_an_encoded_file_is_refused(site: Site, target: Path) -> None:
    site.encoding = "gzip"
    with pytest.raises(WeightsError, match="only in gzip encoding"):
        get(site, target)


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///etc/passwd", "http://", "https:///x", "http://h:no/x"]
)
def test_other_addresses_are_refused(target: Path, url: str) -> None:
    with pytest.raises(WeightsError, match=r"only http and https|the address or a proxy setting is wrong"):
        fetch(url, target, connect_timeout_s=1)
    assert left(target) == set()


@pytest.mark.parametrize("sha256", ["xyz", SHA256 + "0", "12 34"])
def test_a_hash_that_is_none_is_refused(target: Path, sha256: str) -> None:
    with pytest.raises(WeightsError, match="not the beginning of a SHA-256"):
        fetch("http://127.0.0.1:1/x", target, sha256=sha256, connect_timeout_s=1)


def test_a_refused_connection_is_named_at_once(target: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/net.pth"
        start_s = time.monotonic()
        with pytest.raises(
            WeightsError, match=r"^cannot fetch http://127\.\S+: 127\.0\.0\.1 refuses the connection$"
        ):
            fetch(url, target, connect_timeout_s=5)
    assert time.monotonic() - start_s < 2
    assert left(target) == set()


def test_an_unknown_host_is_named(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(WeightsError, match=r"weights\.invalid cannot be resolved: is this machine online\?$"):
        fetch("https://weights.invalid/net.pth", target, connect_timeout_s=2)


def test_a_name_server_that_does_not_answer_costs_no_more_than_the_limit(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang(*args: object, **kwargs: object) -> list[object]:
        released.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    before = set(threading.enumerate())
    start_s = time.monotonic()
    with pytest.raises(WeightsError, match=r"weights\.invalid did not answer in time$"):
        fetch("https://weights.invalid/net.pth", target, connect_timeout_s=0.3)
    assert time.monotonic() - start_s < 1.5
    released.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_an_abandoned_connection_is_closed_when_it_comes(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def late(*args: object, **kwargs: object) -> object:
        time.sleep(0.4)
        return resolve(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", late)
    before = set(threading.enumerate())
    with pytest.raises(WeightsError, match="did not answer in time"):
        fetch(site.url, target, connect_timeout_s=0.1)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    # An open socket would be reported as a ResourceWarning, which is an error in this suite.
    assert left(target) == set()


def test_a_server_that_does_not_speak_tls_or_http(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"220 welcome\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(WeightsError, match=r"no TLS connection to 127\.0\.0\.1: \S+"):
            fetch(f"https://{address}/net.pth", target, connect_timeout_s=2)
        with pytest.raises(WeightsError, match=r"127\.0\.0\.1 closed the connection|no connection to"):
            fetch(f"http://{address}/net.pth", target, connect_timeout_s=2)
        thread.join()


def test_a_certificate_that_is_not_trusted_is_named(target: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
         "-keyout", str(key), "-out", str(tmp_path / "cert.pem")],
        check=False, capture_output=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(WeightsError, match=r"the certificate of 127\.0\.0\.1 is not valid: self.signed"):
            fetch(f"https://127.0.0.1:{listener.getsockname()[1]}/x", target, connect_timeout_s=2)
        thread.join()


def test_a_silent_server_is_given_up(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnport.connection._SILENCE_S", 0.2)
    site.pause_s = 1.0
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1 does not answer$"):
        get(site, target)


def test_a_folder_that_cannot_be_made(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(WeightsError, match=r"^cannot write \S+net\.pth: (File exists|Not a directory)$"):
        get(site, tmp_path / "cache" / "net.pth")


def test_a_full_disk_leaves_nothing(site: Site, target: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from cnnport.download import fetch
from cnnport.errors import WeightsError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    fetch(sys.argv[1], Path(sys.argv[2]), connect_timeout_s=5)
except WeightsError as error:
    sys.exit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, site.url, str(target)], check=False, capture_output=True, text=True
    )
    assert done.stderr.strip() == f"cannot write {target}: {os.strerror(errno.EFBIG)}"
    assert left(target) == set()


def test_processes_that_want_the_same_file_do_not_disturb_each_other(site: Site, target: Path) -> None:
    site.pause_s = 1.0
    program = (
        "import sys; from pathlib import Path; from cnnport.download import fetch; "
        f"fetch(sys.argv[1], Path(sys.argv[2]), sha256={SHA256!r}, connect_timeout_s=10)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, site.url, str(target)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert target.read_bytes() == CONTENT
    assert left(target) == {"net.pth"}


def test_threads_that_want_the_same_file_share_one_transfer(site: Site, target: Path) -> None:
    site.pause_s = 0.3
    threads = [threading.Thread(target=get, args=(site, target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(site.requests) == 1
    assert left(target) == {"net.pth"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:word@host:8/a/b.pth?key=1#sha256=2", "https://host:8/a/b.pth"),
        ("http://[::1/x?secret", "http://[::1/x"),
    ],
)
def test_secrets_of_an_address_are_not_shown(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_it_is_light() -> None:
    program = (
        "import sys, cnnport.download; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'httpx')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def leave_part(site: Site, target: Path, sha256: str = SHA256) -> None:
    """Break a transfer off after 1000 bytes, so that its part stays."""
    site.cuts = [1000, 0, 0]
    with pytest.raises(WeightsError, match="1000 of"):
        get(site, target, sha256)
    site.cuts.clear()
    site.requests.clear()
