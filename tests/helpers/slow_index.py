"""An index of packages on loopback whose downloads begin when a test says so."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


class SlowIndex:
    """Serves the wheels of a folder to pip. ``downloads``: how many were asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._asked, self._released = folder, threading.Event(), threading.Event()
        self.downloads = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"

    def wait_for_download(self) -> None:
        """Until pip asks for a package, and so is in the middle of its work."""
        assert self._asked.wait(120)

    def release(self) -> None:
        """Let every download begin, from now on."""
        self._released.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                *_, kind, name = self.path.strip("/").split("/")
                if kind == "simple":
                    files = [path.name for path in index._folder.glob(f"{name}-*.whl")]
                    self._send("".join(f'<a href="/files/{file}">{file}</a>' for file in files).encode())
                    return
                index.downloads += 1
                index._asked.set()
                index._released.wait(120)
                self._send((index._folder / name).read_bytes())

            def _send(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler
