"""A real Milvus server, for as long as the tests that need it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

SERVER = Path(__file__).parent / "milvus_server.py"
APART = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]  # a network of its own, and no process outlives it
ENVIRONMENT = Path(sys.prefix) / "milvus-server"  # its own: the wheel brings a server, and goes with this environment


class MilvusServer:
    """One server over one folder, which can be killed and started again; reached at `uri`, on this machine's loopback alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()
        self.start()

    def start(self) -> None:
        command = [*APART, str(ENVIRONMENT / "bin/python"), str(SERVER), str(self.folder)]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            self.kill()
            pytest.skip(f"a Milvus server does not start here: {(self.folder / 'log').read_text()[-300:]}")

    def kill(self) -> None:
        """As a power cut would: nothing is written any more."""
        self.process.kill()
        self.process.wait()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(str(self.folder / "socket"))
                except OSError:
                    near.close()
                    continue
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """The server of the package `milvus`, installed into an environment of its own; where that cannot be had, tests that need it skip."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here, without which a Milvus server would listen on every interface")
    if not (ENVIRONMENT / "done").is_file():
        uv, python = str(Path(sys.executable).parent / "uv"), str(ENVIRONMENT / "bin/python")
        for command in (["venv", "--clear", str(ENVIRONMENT)], ["pip", "install", "--python", python, "milvus==2.3.5"]):
            process = subprocess.run([uv, *command], capture_output=True, text=True, check=False)
            if process.returncode:
                pytest.skip(f"the Milvus server cannot be installed: {process.stderr[-300:]}")
        (ENVIRONMENT / "done").touch()
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    yield server
    server.kill()
    server.listener.close()
