"""A server of the KServe protocol that Triton speaks over HTTP, before a model repository run by ONNX Runtime.

Just enough for Triton's own client: readiness, a model's metadata, and inference with binary tensors. Requests are
answered one at a time, as they are.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from cnnport.errors import CnnportError
from cnnport.measuring.studies.triton_ensemble import Repository

_LENGTH = "Inference-Header-Content-Length"
_DTYPES = {"UINT8": "uint8", "INT64": "int64", "FP16": "float16", "FP32": "float32"}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    """Host and port of a server of a model repository, and the shapes that it was sent so far."""
    shapes: list[tuple[int, ...]] = []
    with Repository(folder) as repository:
        handler = _handler(repository, threading.Lock(), shapes)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", shapes
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(
    repository: Repository, one: threading.Lock, shapes: list[tuple[int, ...]]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            name = parts[2] if parts[:2] == ["v2", "models"] else ""
            if name not in repository.configs:
                self._json(404, {"error": f"unknown: {self.path}"})
            elif parts[3:] == ["ready"]:
                self._send(200, b"", {})
            else:
                config = repository.configs[name]
                batch = [-1] if config.max_batch_size else []
                self._json(
                    200,
                    {
                        "name": name,
                        "inputs": [
                            {
                                "name": each.name,
                                "datatype": _protocol_name(each),
                                "shape": batch + list(each.dims),
                            }
                            for each in config.input
                        ],
                    },
                )

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            head = int(self.headers.get(_LENGTH, len(body)))
            request = json.loads(body[:head])
            feeds, start = {}, head
            for each in request["inputs"]:
                end = start + each["parameters"]["binary_data_size"]
                array = np.frombuffer(body[start:end], _DTYPES[each["datatype"]]).reshape(each["shape"])
                feeds[each["name"]], start = array, end
                shapes.append(array.shape)
            try:
                with one:
                    answer = repository.run(self.path.split("/")[3], feeds)
            except CnnportError as error:
                self._json(400, {"error": str(error)})
                return
            wanted = [each["name"] for each in request["outputs"]]
            arrays = {name: np.ascontiguousarray(answer[name]) for name in wanted}
            names = {dtype: name for name, dtype in _DTYPES.items()}
            text = json.dumps(
                {
                    "model_name": self.path.split("/")[3],
                    "outputs": [
                        {
                            "name": name,
                            "datatype": names[str(array.dtype)],
                            "shape": list(array.shape),
                            "parameters": {"binary_data_size": array.nbytes},
                        }
                        for name, array in arrays.items()
                    ],
                }
            ).encode()
            data = b"".join(array.tobytes() for array in arrays.values())
            self._send(200, text + data, {_LENGTH: str(len(text))})

        def _json(self, status: int, value: Any) -> None:
            self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def _protocol_name(each: Any) -> str:
    from tritonclient.grpc.model_config_pb2 import DataType

    return str(DataType.Name(each.data_type)).removeprefix("TYPE_")
