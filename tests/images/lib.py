"""What the image tests share: looking into images and running what is in them. Needs root, for mounts and chroot. No tests in here."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request

STORE = os.environ["IMAGES_STORE"].split()
ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = ("token-sidecar", "mcp-server")
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
# As a pod does it: nothing can be written, and the user is the image's. $0 is the root file system.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec chroot --userspec=65532:65532 "$0" "$@"'
# By its path: the binaries are started with the image's environment.
UNSHARE = shutil.which("unshare") or "/usr/bin/unshare"


def buildah(*args: str) -> str:
    """Runs buildah on the store of this test; raises `CalledProcessError` with what it said."""
    return subprocess.run(["buildah", *STORE, *args], check=True, capture_output=True, text=True).stdout.strip()


def inspect(image: str) -> dict:
    """Configuration and layers of an image, as the OCI specification has them."""
    return json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]


@contextlib.contextmanager
def mounted(image: str):
    """The root file system of an image, for as long as the block lasts. What is written there is in no image."""
    container = buildah("from", "--pull-never", image)
    try:
        yield pathlib.Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def files(root: pathlib.Path) -> dict[str, int]:
    """Every file with its size in bytes."""
    return {str(p.relative_to(root)): p.lstat().st_size for p in root.rglob("*") if p.is_symlink() or p.is_file()}


def environment(image: str) -> dict[str, str]:
    """What the image sets for whoever runs it."""
    return dict(pair.split("=", 1) for pair in inspect(image)["config"]["Env"])


def command(image: str, root: pathlib.Path, *arguments: str) -> list[str]:
    """The image's entry point with arguments, in a root file system that is read-only, as the image's user."""
    return [UNSHARE, "--mount", "sh", "-c", READ_ONLY, str(root), *inspect(image)["config"]["Entrypoint"], *arguments]


def run(image: str, root: pathlib.Path, *arguments: str, env: dict | None = None) -> subprocess.CompletedProcess:
    """Runs it to its end, 60 seconds at most."""
    return subprocess.run(
        command(image, root, *arguments), env=environment(image) | (env or {}), capture_output=True, text=True, timeout=60, check=False
    )


def start(image: str, root: pathlib.Path, *arguments: str, env: dict) -> subprocess.Popen:
    """Starts it; its output goes to a pipe."""
    return subprocess.Popen(command(image, root, *arguments), env=environment(image) | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def section(binary: pathlib.Path, name: str) -> bytes | None:
    """The bytes of a section of an ELF file; nothing when it has none of that name."""
    done = subprocess.run(["readelf", "-SW", str(binary)], check=True, capture_output=True, text=True)
    found = re.search(rf"\] {re.escape(name)}\s+\S+\s+\S+ (\S+) (\S+)", done.stdout)
    if not found:
        return None
    offset, size = (int(number, 16) for number in found.groups())
    return binary.read_bytes()[offset : offset + size]


def get(url: str, trust: str | None = None) -> tuple[int, str]:
    """Status and body; 0 while nobody listens. `trust` is a file of roots for https."""
    try:
        with urllib.request.urlopen(url, timeout=30, context=ssl.create_default_context(cafile=trust) if trust else None) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
