"""What is in an image and what is not: its base and one binary, without a shell, without a trace of the machine that built it."""

import os
import re
import subprocess
import unittest

from lib import IMAGES, VERSION, buildah, files, inspect, mounted, run, section

BASE = os.environ["RUNTIME_IMAGE"]
REVISION = os.environ["REVISION"]
# In bytes.
LIMIT = {"token-sidecar": 10 * 1024 * 1024}


class Image(unittest.TestCase):
    def test_an_image_is_its_base_and_one_binary(self):
        with mounted(BASE) as root:
            base = files(root)
        for name in IMAGES:
            with self.subTest(image=name), mounted(name) as root:
                binary = root / "usr/local/bin" / name
                mine = files(root)
                self.assertEqual(set(mine) - set(base), {f"usr/local/bin/{name}"})
                self.assertEqual({f for f in base if mine.get(f) != base[f]}, set())
                below = inspect(BASE)["rootfs"]["diff_ids"]
                layers = inspect(name)["rootfs"]["diff_ids"]
                self.assertEqual((layers[: len(below)], len(layers)), (below, len(below) + 1))
                size = binary.stat().st_size
                print(f"{name}: binary {size} bytes ({size / 2**20:.1f} MiB), image {sum(mine.values())} bytes on the stand-in base")
                self.assertLessEqual(size, LIMIT.get(name, size))
                self.assertEqual((binary.stat().st_mode & 0o7777, binary.stat().st_uid), (0o555, 0))
                for shell in ("bin/sh", "bin/bash", "bin/busybox", "busybox/sh", "usr/bin/sh", "usr/bin/dash", "usr/bin/bash"):
                    self.assertNotIn(shell, mine)

    def test_labels_user_and_entry(self):
        for name in IMAGES:
            with self.subTest(image=name):
                config = inspect(name)["config"]
                self.assertEqual(config["User"], "65532:65532")
                self.assertEqual(config["Entrypoint"], [f"/usr/local/bin/{name}"])
                self.assertNotIn("Healthcheck", config)
                labels = {k.removeprefix("org.opencontainers.image."): v for k, v in config["Labels"].items()}
                wanted = {
                    "title": name,
                    "revision": REVISION,
                    "version": VERSION,
                    "licenses": "Apache-2.0",
                    "source": "https://github.com/token-sidecar/token-sidecar",
                    "base.name": BASE,
                    "base.digest": os.environ["RUNTIME_DIGEST"],
                }
                self.assertEqual({key: labels.get(key) for key in wanted}, wanted)
                self.assertTrue(labels["description"])

    def test_the_binary_says_what_it_was_built_of(self):
        for name in IMAGES:
            with self.subTest(image=name), mounted(name) as root:
                done = run(name, root, "--version")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(f"{VERSION} ({REVISION})", done.stdout)

    def test_the_binary_needs_no_library_that_the_base_lacks(self):
        for name in IMAGES:
            with self.subTest(image=name), mounted(name) as root:
                binary = root / "usr/local/bin" / name
                dynamic = subprocess.run(["readelf", "-dW", str(binary)], check=True, capture_output=True, text=True).stdout
                needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
                self.assertEqual({n for n in needed if not list(root.glob(f"usr/lib*/**/{n}"))}, set(), needed)

    def test_the_binary_has_no_trace_of_who_built_it_where_and_when(self):
        host = buildah("info", "--format", "{{.host.hostname}}").encode()
        for name in IMAGES:
            with self.subTest(image=name), mounted(name) as root:
                binary = root / "usr/local/bin" / name
                self.assertIsNone(section(binary, ".symtab"), "stripped")
                self.assertIsNone(section(binary, ".note.gnu.build-id"))
                text = binary.read_bytes()
                # The workspace, the registry, the toolchain, homes.
                for place in (b"/build/", b"/usr/local/cargo", b"/usr/local/rust", b"/root/", b"/home/"):
                    self.assertEqual(re.findall(rb"[\x20-\x7e]*" + place + rb"[\x20-\x7e]*", text), [])
                # A date or a time as __DATE__ and __TIME__ write it; "Jan  1 1970" alone would be a constant of somebody's.
                self.assertEqual(re.findall(rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 123]\d 20\d\d", text), [])
                if len(host) > 4:
                    self.assertNotIn(host, text)


if __name__ == "__main__":
    unittest.main()
