"""The page in a frame of a notebook, over an index in this process."""

from __future__ import annotations

from threading import Thread

from sbirlib.search import SearchIndex
from sbirlib.serve.application import make
from sbirlib.serve.server import listen, server_of

NOTEBOOKS = ("http://localhost:*", "http://127.0.0.1:*", "https://localhost:*")  # origins that may frame the page


class Window:
    """A page at `url` that a notebook shows in a frame, served by a thread of this process until `close`."""

    def __init__(self, index: SearchIndex) -> None:
        sock = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        self._server = server_of(make(index, hosts=["localhost"], frames=NOTEBOOKS))
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [sock]}, name="sbirlib-page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()

    def __repr__(self) -> str:
        return f"<draw at {self.url}>"

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" title="Draw to search" style="width:100%;height:720px;border:0"></iframe>'
