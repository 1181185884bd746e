"""Runs a Milvus server in a network of its own, and answers on a unix socket: `unshare -r --net python milvus_server.py FOLDER`.

The server listens on every interface; in a network namespace that holds nothing but a loopback device nobody else can reach it. Needs the
package `milvus`, and runs in that package's environment.
"""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

from milvus import MilvusServer, MilvusServerConfig


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def forward(folder: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    address = folder / "socket"
    address.unlink(missing_ok=True)
    await asyncio.start_unix_server(joined, str(address))
    print("ready", flush=True)
    while server.poll() is None:
        await asyncio.sleep(0.2)


def leave_with_the_parent() -> None:
    """The parent holds our standard input open for as long as it lives; we are the first process here, so all others end with us."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    folder = Path(sys.argv[1])
    threading.Thread(target=leave_with_the_parent, daemon=True).start()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    server = MilvusServer(MilvusServerConfig(data_dir=str(folder / "data")), wait_for_started=False)
    server.start()
    server.wait_started(600_000)
    asyncio.run(forward(folder, server.listen_port, server.server_proc))


if __name__ == "__main__":
    main()
