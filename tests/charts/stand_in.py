#!/usr/bin/env python3
"""Stands in for az, kubectl, kcadm.sh, helm, docker, curl and sleep while the guide's commands run, under whose name it is called. Refuses commands and options
that the real one does not have, and commands without the options that the real one requires: those of kubectl and helm are asked of the real ones'
help, those of az are in az.json, as azure-cli 2.91.0 prints them with --help. Touches nothing."""

import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ISSUER = "https://westeurope.oic.prod-aks.azure.com/72f988bf-86f1-41af-91ab-2d7cd011db47/aaaaaaaa-0000-4000-8000-000000000001/"
ANSWERS = {
    "oidcIssuerProfile.issuerUrl": ISSUER,
    "appId": "22222222-2222-3333-4444-555555555555",
    "clientId": "11111111-2222-3333-4444-555555555555",
    "principalId": "66666666-2222-3333-4444-555555555555",
    "tenantId": "72f988bf-86f1-41af-91ab-2d7cd011db47",
    "id": "00000000-aaaa-bbbb-cccc-555555555555",
    "appRoles[?value=='Orders.Read'].id": "99999999-aaaa-bbbb-cccc-555555555555",
}


def log(entry: dict) -> None:
    """Remembers a call for the test."""
    with open(os.environ["STAND_IN_LOG"], "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def refuse(text: str) -> None:
    """What a real tool would do with a command that it does not know."""
    sys.exit(f"{sys.argv[0]}: {text}")


def split(words: list[str]) -> tuple[list[str], dict]:
    """Positional words and options; an option's value is what follows unless that is an option."""
    names, options = [], {}
    at = 0
    while at < len(words):
        word = words[at]
        if word.startswith("-") and word != "-":
            option, _, value = word.partition("=")
            if not value and at + 1 < len(words) and (not words[at + 1].startswith("-") or words[at + 1] == "-"):
                at += 1
                value = words[at]
            options[option] = value if option not in options else f"{options[option]}\n{value}"
        else:
            names.append(word)
        at += 1
    return names, options


def az(words: list[str]) -> None:
    names, options = split(words)
    known = json.loads((HERE / "az.json").read_text())
    # `az acr build … .`: the last word is no part of the command.
    command = " ".join(["az", *(n for n in names if re.fullmatch(r"[a-z-]+", n))])
    if command not in known:
        refuse(f"there is no `{command}`")
    for option in options:
        if option not in known[command]["options"]:
            refuse(f"`{command}` has no {option}")
    for names in known[command]["required"]:
        if not any(options.get(n) for n in names):
            refuse(f"`{command}` needs {names[0]}")
    entry = {"command": command, "options": options}
    if "--body" in options:
        entry["body"] = json.loads(options["--body"])
    log(entry)
    if options.get("--query"):
        if options["--query"] not in ANSWERS:
            refuse(f"the stand-in has no answer to --query {options['--query']}")
        print(ANSWERS[options["--query"]])


def help_of(program: str, *command: str) -> str:
    """The help of a command of the real program, with the options that all commands have; asked once for all runs of a test."""
    kept = pathlib.Path(os.environ["STAND_IN_HELP"], re.sub(r"\W", "_", " ".join([program, *command])))
    if not kept.exists():
        kept.write_text(asked_for_help(program, *command), encoding="utf-8")
    return kept.read_text(encoding="utf-8")


def asked_for_help(program: str, *command: str) -> str:
    own = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=False)
    if own.returncode != 0:
        refuse(own.stderr)
    everywhere = subprocess.run([program, "options"], capture_output=True, text=True, check=False).stdout if "kubectl" in program else ""
    return own.stdout + everywhere


def check_options(text: str, command: str, options: dict) -> None:
    known = set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", text))
    for option in options:
        if option not in known:
            refuse(f"`{command}` has no {option}")


def kubectl(words: list[str]) -> None:
    # What stands behind `--` is a command for a container.
    own = words.index("--") if "--" in words else len(words)
    names, options = split(words[:own])
    verb = [names[0]]
    if names[0] in ("create", "rollout"):
        verb.append(names[1])
    if verb == ["create", "secret"]:
        verb.append(names[2])
    program = os.environ["STAND_IN_KUBECTL"]
    text = help_of(program, *verb)
    if not text.strip() or f"kubectl {verb[0]}" not in text:
        refuse(f"there is no `kubectl {' '.join(verb)}`")
    check_options(text, f"kubectl {' '.join(verb)}", options)
    entry = {"command": f"kubectl {' '.join(verb)}", "options": options, "names": names, "inner": words[own + 1 :]}
    if verb == ["apply"]:
        import yaml  # only here: the others run without it

        source = options.get("--filename", options.get("-f"))
        text = sys.stdin.read() if source == "-" else pathlib.Path(source).read_text(encoding="utf-8")
        entry["objects"] = [d for d in yaml.safe_load_all(text) if d]
    log(entry)
    if "--raw" in options:
        print(json.dumps({"issuer": ISSUER, "jwks_uri": ISSUER + "openid/v1/jwks"}, separators=(",", ":")))
    if verb == ["get"] and options.get("--output") == "name":
        print("pod/mcp-server-5d9c7b8f6-abcde")
    if verb == ["port-forward"]:
        # Until it is ended, as the real one.
        os.execvp("/bin/sleep", ["sleep", "60"])


def kcadm(words: list[str]) -> None:
    names, options = split(words)
    if names[:1] != ["create"] or names[1] not in ("identity-provider/instances", "clients"):
        refuse(f"unknown: {names}")
    for option in options:
        if option not in ("-r", "-s"):
            refuse(f"no {option}")
    for setting in options["-s"].split("\n"):
        value = setting.partition("=")[2]
        if value.startswith("{"):
            json.loads(value)
    log({"command": "kcadm.sh create", "options": options, "names": names})


def helm(words: list[str]) -> None:
    names, options = split(words)
    program = os.environ["STAND_IN_HELM"]
    text = help_of(program, names[0])
    if f"helm {names[0]}" not in text:
        refuse(f"there is no `helm {names[0]}`")
    check_options(text, f"helm {names[0]}", options)
    entry = {"command": f"helm {names[0]}", "options": options, "names": names}
    if names[0] in ("upgrade", "install"):
        # `--install NAME` is a flag and then a name, which `split` cannot know.
        flags = ("--install", "--create-namespace", "--wait")
        rest = []
        for at, word in enumerate(words[1:], 1):
            if word in flags or word == "--timeout" or words[at - 1] == "--timeout":
                continue
            rest.append(word)
        done = subprocess.run([program, "template", *rest], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            refuse(done.stderr)
        entry["rendered"] = done.stdout
    log(entry)


def docker(words: list[str]) -> None:
    names, options = split(words)
    known = {"build": {"--file", "--tag", "--build-arg", "--platform"}, "push": set()}
    if names[0] not in known or not options.keys() <= known[names[0]]:
        refuse(f"unknown: {words}")
    if "--file" in options and not pathlib.Path(options["--file"]).exists():
        refuse(f"there is no {options['--file']}")
    log({"command": f"docker {names[0]}", "options": options, "names": names})


def curl(words: list[str]) -> None:
    names, options = split(words)
    log({"command": "curl", "options": options, "names": names})


def main() -> None:
    """By the name it is called by."""
    name = pathlib.Path(sys.argv[0]).name
    {"az": az, "kubectl": kubectl, "kcadm.sh": kcadm, "helm": helm, "docker": docker, "curl": curl, "sleep": lambda _: None}[name](sys.argv[1:])


if __name__ == "__main__":
    main()
