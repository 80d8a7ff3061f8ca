"""The bills of materials: right by CycloneDX's own schema, of the very binary that is in the image, and with the crates that were compiled, no more."""

import hashlib
import json
import os
import re
import unittest
import zlib

from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression
from cyclonedx.validation.json import JsonStrictValidator
from lib import IMAGES, ROOT, VERSION, mounted, section


class Bill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.texts, cls.bills, cls.compiled, cls.carried, cls.digests = {}, {}, {}, {}, {}
        for name in IMAGES:
            with mounted(f"{name}-sbom") as root:
                cls.texts[name] = (root / f"{name}.cdx.json").read_text()
                cls.bills[name] = json.loads(cls.texts[name])
            with mounted(f"{name}-build") as root:
                # The compiler leaves a list of the sources of each crate and build script.
                release = root / "build/target/release"
                sources = [list_.read_text() for pattern in ("deps/*.d", "build/*/*.d") for list_ in release.glob(pattern)]
                cls.compiled[name] = set(re.findall(r"/registry/src/[^/\s]+/([^/\s]+)/", "".join(sources)))
            with mounted(name) as root:
                binary = root / "usr/local/bin" / name
                cls.digests[name] = hashlib.sha256(binary.read_bytes()).hexdigest()
                cls.carried[name] = {(p["name"], p["version"]) for p in json.loads(zlib.decompress(section(binary, ".dep-v0")))["packages"]}

    def test_a_bill_is_right_by_the_schema(self):
        for name, text in self.texts.items():
            with self.subTest(image=name):
                validator = JsonStrictValidator(SchemaVersion.from_version(self.bills[name]["specVersion"]))
                self.assertIsNone(validator.validate_str(text))
                self.assertIsNotNone(validator.validate_str(text.replace('"library"', '"crate"')), "the validator finds nothing, whatever it is given")

    def test_a_bill_says_of_which_binary_it_is(self):
        revision = os.environ["REVISION"]
        for name, bill in self.bills.items():
            with self.subTest(image=name):
                subject = bill["metadata"]["component"]
                self.assertEqual((subject["type"], subject["name"], subject["version"]), ("application", name, VERSION))
                self.assertEqual(subject["hashes"], [{"alg": "SHA-256", "content": self.digests[name]}])
                self.assertTrue(subject["purl"].endswith(f"%40{revision}"), subject["purl"])
                self.assertIn({"name": "org.opencontainers.image.revision", "value": revision}, bill["metadata"]["properties"])

    def test_a_bill_names_what_was_compiled(self):
        for name, bill in self.bills.items():
            with self.subTest(image=name):
                self.assertEqual({f"{c['name']}-{c['version']}" for c in bill["components"] if "hashes" in c}, self.compiled[name])

    def test_the_binary_carries_what_the_bill_names(self):
        for name, bill in self.bills.items():
            with self.subTest(image=name):
                billed = {(c["name"], c["version"]) for c in bill["components"]} | {(name, VERSION)}
                self.assertEqual(billed - self.carried[name], set())
                # cargo-auditable asks `cargo metadata`, which counts a few crates that a feature mentions with a question mark and nobody turns on.
                more = self.carried[name] - billed
                self.assertLess(len(more), 8, f"features that only tests turn on count, too: {more}")
                print(f"{name}: {len(billed) - 1} crates in its bill; its binary names these as well: {sorted(more)}")

    def test_crates_have_licences_and_the_digests_of_the_lock_file(self):
        locked = (ROOT / "Cargo.lock").read_text()
        for name, bill in self.bills.items():
            for crate in bill["components"]:
                with self.subTest(image=name, crate=crate["name"]):
                    self.assertTrue(is_expression(crate["licenses"][0]["expression"]), crate["licenses"])
                    entry = locked.split(f'name = "{crate["name"]}"\nversion = "{crate["version"]}"\n')[1].split("\n\n")[0]
                    checksum = re.search(r'^checksum = "(.*)"', entry, re.M)
                    self.assertEqual(crate.get("hashes"), [{"alg": "SHA-256", "content": checksum[1]}] if checksum else None)

    def test_every_crate_is_there_because_of_another(self):
        for name, bill in self.bills.items():
            with self.subTest(image=name):
                needs = {d["ref"]: d["dependsOn"] for d in bill["dependencies"]}
                subject = bill["metadata"]["component"]["bom-ref"]
                reached, left = set(), [subject]
                while left:
                    crate = left.pop()
                    if crate not in reached:
                        reached.add(crate)
                        left += needs[crate]
                self.assertEqual(reached, {c["bom-ref"] for c in bill["components"]} | {subject})
                self.assertEqual(any(c["name"] == "rustls" for c in bill["components"]), name == "token-sidecar", "the server speaks no TLS")


if __name__ == "__main__":
    unittest.main()
