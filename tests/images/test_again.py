"""Built twice, the second time from nothing, everything is the same byte by byte. Only with `tests/images/run --again`."""

import os
import unittest

from lib import IMAGES, inspect, mounted


@unittest.skipUnless(os.environ.get("AGAIN"), "run with --again")
class Again(unittest.TestCase):
    def test_a_second_build_gives_the_same_bytes(self):
        for name in IMAGES:
            with self.subTest(image=name):
                for image, file in ((name, f"usr/local/bin/{name}"), (f"{name}-sbom", f"{name}.cdx.json")):
                    with mounted(image) as second, mounted(image.replace(name, f"{name}-first")) as first:
                        self.assertTrue((first / file).read_bytes() == (second / file).read_bytes(), file)
                self.assertEqual(inspect(name), inspect(f"{name}-first"), "configuration, layers and history")
                print(f"{name}: the same binary, bill and image twice")


if __name__ == "__main__":
    unittest.main()
