"""Free ports, for processes that must be told their port before they start: in turn with tests/src/ports.rs, by the same file, for the reasons given there.
No tests in here."""

import contextlib
import fcntl
import os
import pathlib
import socket

# The fewest ports that are worth their own range.
ENOUGH = 8_000


def free() -> int:
    """A port of loopback that nobody has, and that nobody else is given: neither by the system nor by who asks here or there."""
    ports = set_aside()
    for _ in ports:
        port = turn(ports)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no loopback port of {ports} is free; close what holds them")


def set_aside() -> range:
    """The ports beside those that the system gives by itself."""
    lowest, highest = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if lowest >= 10_000 + ENOUGH:
        return range(10_000, lowest)
    if highest < 65_535 - ENOUGH:
        return range(highest + 1, 65_535)
    return range(10_000, 32_768)


def turn(ports: range) -> int:
    """The port whose turn it is."""
    turns = pathlib.Path(os.environ.get("TMPDIR", "/tmp"), f"token-sidecar-ports-{os.getuid()}")
    with os.fdopen(os.open(turns, os.O_RDWR | os.O_CREAT, 0o644), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        last = file.read().strip()
        port = int(last) + 1 if last.isdigit() else ports[os.getpid() * 97 % len(ports)]
        if port not in ports:
            port = ports[0]
        file.seek(0)
        file.truncate()
        file.write(str(port))
        file.flush()
        return port
