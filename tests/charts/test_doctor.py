"""The commands that `token-sidecar check` prints: every kubectl and helm command exists, with every option, by the real programs' own help. Those of az are held by the
doctor's own tests."""

import functools
import pathlib
import re
import shlex
import subprocess
import unittest

from lib import HELMS, ROOT
from stand_in import split

KUBECTL = str(pathlib.Path(HELMS["helm 4"]).parents[1] / "kubectl" / "kubectl")
# Verbs of more than one word.
LONG = {("rollout", "restart"), ("auth", "can-i"), ("create", "secret", "generic"), ("get", "values")}


def printed() -> list[list[str]]:
    """Every command, as words, with something for each placeholder; pipes taken apart."""
    done = subprocess.run([ROOT / "target" / "debug" / "examples" / "reference", "commands"], capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        for part in re.sub(r"<[a-z][^<>]*>", "x", line).split(" | "):
            found.append(shlex.split(part, comments=True))
    return found


@functools.cache
def options(program: str, *verb: str) -> set[str]:
    """The options of a command, those that all commands have included."""
    own = subprocess.run([program, *verb, "--help"], capture_output=True, text=True, check=True).stdout
    if program == KUBECTL:
        own += subprocess.run([program, "options"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", own))


class Commands(unittest.TestCase):
    def looked_at(self, program: str, real: str) -> int:
        count = 0
        for words in printed():
            if words[0] != program:
                continue
            words = words[1 : words.index("--") if "--" in words else None]
            verb = next((v for n in (3, 2) if (v := tuple(words[:n])) in LONG), (words[0],))
            known = options(real, *verb)
            for option in split(words)[1]:
                # `-it` is `-i -t`.
                short = re.fullmatch(r"-[a-z]{2,}", option)
                for one in [f"-{c}" for c in option[1:]] if short else [option]:
                    self.assertIn(one, known, f"{program} {' '.join(words)}")
            count += 1
        return count

    def test_kubectl_has_them(self):
        self.assertGreater(self.looked_at("kubectl", KUBECTL), 25)

    def test_helm_has_them(self):
        for real in HELMS.values():
            self.assertGreater(self.looked_at("helm", real), 0)

    def test_jsonpaths_are_taken(self):
        # `kubectl get --filename -` on an object of our own needs no cluster.
        pod = '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "c"}]}}'
        paths = {word for words in printed() for word in words if word.startswith("jsonpath=")}
        self.assertGreater(len(paths), 4)
        for path in paths:
            done = subprocess.run([KUBECTL, "create", "--dry-run=client", "--validate=false", "--output", path, "--filename", "-"], input=pod, capture_output=True, text=True, check=False)
            self.assertNotIn("error parsing jsonpath", done.stderr, path)
            self.assertNotIn("invalid", done.stderr, path)


if __name__ == "__main__":
    unittest.main()
