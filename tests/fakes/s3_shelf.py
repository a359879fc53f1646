"""A folder served as a bucket: as much of S3's GetObject and ListObjectsV2 as a reader without credentials needs, in pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 3
"""Keys of one page: few, so that a listing has several."""
_DATE = "2026-01-01T00:00:00.000Z"


@contextmanager
def serve_bucket(folder: Path) -> Iterator[str]:
    """The endpoint; the folder is the bucket `bucket`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            key = unquote(parts.path).removeprefix("/bucket").strip("/")
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if "list-type" in query:
                self._send(200, _list(folder, query).encode(), "application/xml")
            elif (folder / key).is_file():
                self._send(200, (folder / key).read_bytes(), "application/octet-stream")
            else:
                self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is written on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _list(folder: Path, query: dict[str, str]) -> str:
    """Keys below a prefix by name, folded at the delimiter, from a token on."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token", "")
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        key = path.relative_to(folder).as_posix()
        if not path.is_file() or not key.startswith(prefix):
            continue
        head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if cut:
            name = prefix + head + cut
            found[name] = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        else:
            size = path.stat().st_size
            found[key] = (
                f"<Contents><Key>{escape(key)}</Key><LastModified>{_DATE}</LastModified>"
                f'<ETag>"0"</ETag><Size>{size}</Size></Contents>'
            )
    names = [name for name in sorted(found) if name > after]
    page, more = names[:PAGE], len(names) > PAGE
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
    rows = "".join(found[name] for name in page)
    return f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
