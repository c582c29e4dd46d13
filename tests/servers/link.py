"""Slow links between a client and a server: a delay, and two network namespaces with a limited rate.

The kernels of containers often lack `netem`, so the delay is made by a process through which the bytes pass.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.servers.process import running

_ADDRESSES = "10.213.8.1", "10.213.8.2"
_BURST_KILOBYTES = 64


@contextmanager
def delayed(url: str, *, round_trip_seconds: float, link: "Link | None" = None) -> Iterator[str]:
    """Put a long line in front of a server, which makes every round trip longer, also that of connecting.

    Args:
        url: the server.
        round_trip_seconds: the time that is added to a round trip.
        link: run at the server's end of this link, otherwise on this machine.
    """
    parts, (prefix, address) = urlsplit(url), (link.server, link.address) if link else ((), "127.0.0.1")
    command = [*prefix, sys.executable, "-m", "tests.servers.link", parts.netloc, address, str(round_trip_seconds)]
    with running(command, ready=r"listening on (\S+)") as match:
        yield f"{parts.scheme}://{match[1]}{parts.path}"


@contextmanager
def namespace(*addresses: str) -> Iterator[tuple[str, ...]]:
    """Create a network that has only these addresses, and yield the words that run a command in it."""
    name = f"wdsalone{os.getpid()}"
    _add_namespace(name)
    try:
        _run("ip", "-n", name, "link", "set", "lo", "up")
        for address in addresses:
            _run("ip", "-n", name, "address", "add", address, "dev", "lo")
        yield "ip", "netns", "exec", name
    finally:
        _delete_namespace(name)


@dataclass(frozen=True)
class Link:
    """Two namespaces that can only reach each other.

    Attributes:
        client: words to put in front of a command that shall run at the client's end.
        server: the same for the server's end.
        address: the address of the server's end.
    """

    client: tuple[str, ...]
    server: tuple[str, ...]
    address: str


@contextmanager
def limited_link(megabits_per_second: float) -> Iterator[Link]:
    """Connect two network namespaces by a link that carries so much in each direction (`tc tbf`)."""
    names = [f"wdslink{os.getpid()}-{end}" for end in range(2)]
    devices = [f"wl{os.getpid() % 100000}-{end}" for end in range(2)]
    _add_namespace(names[0])
    try:
        _run("ip", "netns", "add", names[1])
        _run("ip", "link", "add", devices[0], "type", "veth", "peer", "name", devices[1])
        for name, device, address in zip(names, devices, _ADDRESSES, strict=True):
            _run("ip", "link", "set", device, "netns", name)
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", device)
            _run("ip", "-n", name, "link", "set", device, "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")
            rate = f"rate {megabits_per_second}mbit burst {_BURST_KILOBYTES}kb latency 50ms"
            _run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", device, "root", "tbf", *rate.split())
            # Connections share the link evenly, whatever this machine uses; new ones starve beside those with BBR.
            _run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
        client, server = (("ip", "netns", "exec", name) for name in names)
        yield Link(client, server, _ADDRESSES[1])
    finally:
        for name in names:
            _delete_namespace(name)


def _add_namespace(name: str) -> None:
    try:
        _run("ip", "netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs `ip netns` (iproute2) and the right to use it, which containers often lack")


def _delete_namespace(name: str) -> None:
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=20)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=20)


async def _serve(upstream: str, address: str, round_trip_seconds: float) -> None:
    """Pass connections to `address` on to `upstream`, each byte half a round trip later."""
    host, _, port = upstream.partition(":")
    delay = round_trip_seconds / 2

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(round_trip_seconds)  # of the TCP handshake, which the local one did not need
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_carry(reader, far_writer, delay), _carry(far_reader, writer, delay))

    server = await asyncio.start_server(connect, address, 0, backlog=512)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Carry bytes in one direction: as many at a time as come, each after the delay."""
    loop = asyncio.get_running_loop()
    in_flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)

    async def arrive() -> None:
        while True:
            due, piece = await in_flight.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not piece:
                return
            writer.write(piece)
            await writer.drain()

    async def depart() -> None:
        piece = b"-"
        while piece:
            piece = await reader.read(1 << 16)
            await in_flight.put((loop.time() + delay, piece))

    try:
        await asyncio.gather(arrive(), depart())
        writer.write_eof()
    except OSError:
        writer.close()  # the other end is gone


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("address")
    parser.add_argument("round_trip_seconds", type=float)
    options = parser.parse_args()
    asyncio.run(_serve(options.upstream, options.address, options.round_trip_seconds))
