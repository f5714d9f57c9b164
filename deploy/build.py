"""Runs the steps of the Dockerfile where there is no Docker: as root, on Linux, in a root folder of its own.

    python deploy/build.py --target cpu      # some minutes; then the service answers its health check

Each stage gets an empty root in which this machine's ``/usr``, ``/lib``, ``/bin`` and ``/sbin`` are seen and cannot be
written, with a copy of ``/etc``, in place of its base image; Python and Node.js are this machine's. So it is tried that
every step works, that what is copied is all that is needed, and that the image's user can run what it starts. It is not
tried that the base images have what this machine has: their packages are the machine's own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
SEEN = ("/usr", "/lib", "/lib64", "/bin", "/sbin")
KEPT = ("PIP_", "NPM_", "npm_", "NODE_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_PROXY", "no_proxy")
HEALTHY_S = 120.0


@dataclass
class Stage:
    """One FROM, and what follows it."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def parsed(text: str) -> tuple[dict[str, str], list[Stage]]:
    """Return the arguments before the first stage, and the stages, of a Dockerfile."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in whole.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip()))
        elif not stages:
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stages[-1].steps.append((word, rest.strip()))
    return arguments, stages


class Image:
    """A root folder, and what a container that is started from it would have."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.arguments: dict[str, str] = {}
        self.user = "0"
        self.folder = "/"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []
        for each in ("tmp", "proc", "dev", "root", "home"):
            (root / each).mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        shutil.copytree("/etc", root / "etc", symlinks=True)  # accounts are added to it
        for each in SEEN:
            seen, inside = Path(each), root / each.lstrip("/")
            if seen.is_symlink():
                inside.symlink_to(seen.readlink())
            elif seen.exists():
                inside.mkdir()
        self._python = Path(sys.base_prefix)
        self.variables = {"PATH": f"{self._python}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        (root / str(self._python).lstrip("/")).mkdir(parents=True, exist_ok=True)

    def start(self, command: list[str], **variables: str) -> subprocess.Popen[bytes]:
        """Start a command inside, as the image's user and with its variables."""
        mounts = [f"mount --bind {each} {self.root}{each}" for each in SEEN if not Path(each).is_symlink()]
        if not str(self._python).startswith("/usr"):
            mounts.append(f"mount --bind {self._python} {self.root}{self._python}")
        mounts += [f"mount -o remount,bind,ro {each.split()[-1]}" for each in mounts]
        mounts += [f"mount --rbind /dev {self.root}/dev", f"mount -t proc proc {self.root}/proc"]
        kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
        inside = {**kept, "HOME": "/root", **self.arguments, **self.variables, **variables}
        user, _, group = self.user.partition(":")
        line = ["chroot", f"--userspec={user}:{group or user}", str(self.root), "env", "-i"]
        line += [f"{name}={value}" for name, value in inside.items()]
        line += ["/bin/sh", "-c", f'cd {shlex.quote(self.folder)} && exec "$@"', "sh", *command]
        script = " && ".join([*mounts, f"exec {shlex.join(line)}"])
        return subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])

    def run(self, command: list[str], **variables: str) -> int:
        """Run a command inside, and return its exit code."""
        return self.start(command, **variables).wait()


def build(image: Image, stage: Stage, images: dict[str, Image]) -> None:
    """Run the steps of a stage."""
    for word, rest in stage.steps:
        print(f"{stage.name}: {word} {rest[:100]}", flush=True)
        if word == "ARG":
            name, _, value = rest.partition("=")
            image.arguments[name] = value
        elif word == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                image.variables[name] = value.replace("$PATH", image.variables["PATH"])
        elif word == "WORKDIR":
            image.folder = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            _copy(image, rest, images)
        elif word == "RUN":
            if image.run(["/bin/sh", "-c", rest]):
                raise SystemExit(f"failed: RUN {rest}")
        elif word == "USER":
            image.user = rest
        elif word in ("ENTRYPOINT", "CMD"):
            setattr(image, "entrypoint" if word == "ENTRYPOINT" else "command", json.loads(rest))
        elif word == "HEALTHCHECK":
            image.health = json.loads(rest.partition("CMD")[2])
        elif word not in ("EXPOSE", "VOLUME"):
            raise SystemExit(f"{word} is not known here: add it")


def _copy(image: Image, rest: str, images: dict[str, Image]) -> None:
    """Copy files of the checkout, or of another stage; a folder's content, as Docker does."""
    words = rest.split()
    base = CHECKOUT
    if words[0].startswith("--from="):
        base = images[words.pop(0).partition("=")[2]].root
    *sources, target = words
    into = Path(target if target.startswith("/") else f"{image.folder}/{target}".replace("/./", "/"))
    inside = image.root / str(into).lstrip("/")
    for source in sources:
        found = base / source.lstrip("/")
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "node_modules", *(["static"] if base == CHECKOUT else []))
            shutil.copytree(found, inside, dirs_exist_ok=True, ignore=ignored)
        else:
            inside.mkdir(parents=True, exist_ok=True) if target.endswith("/") else None
            shutil.copy(found, inside)


def serves(image: Image) -> None:
    """Start what the image starts, on a new collection, and wait until its health check is content.

    Raises:
        SystemExit: it is not within two minutes, or has no page.
    """
    if image.run([*image.entrypoint, "ingest", "/data", "--encoder", "light"], E2VSEARCH_INDEX="/data/index"):
        raise SystemExit("the image cannot ingest")
    index = {"E2VSEARCH_INDEX": "/data/index", "E2VSEARCH_API_KEY": "key"}
    service = image.start([*image.entrypoint, *image.command], **index)
    try:
        until = time.monotonic() + HEALTHY_S
        while image.run(image.health):
            if service.poll() is not None or time.monotonic() > until:
                raise SystemExit("the image's health check fails")
            time.sleep(1.0)
        with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=10) as page:
            if b"<script" not in page.read():
                raise SystemExit("the image has no page")
    finally:
        service.terminate()
        service.wait()


def main() -> None:
    """Build a target, and try it."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--target", default="cpu", choices=["cpu", "cuda"])
    arguments.add_argument("--extras", help="in place of those that the Dockerfile names")
    options = arguments.parse_args()
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise SystemExit("needs root on Linux, and unshare: it mounts and changes roots")
    _, stages = parsed((HERE / "Dockerfile").read_text(encoding="utf-8"))
    images: dict[str, Image] = {}
    with tempfile.TemporaryDirectory(prefix="image-") as scratch:
        Path(scratch).chmod(0o755)
        for stage in stages:
            image = images[stage.base] if stage.base in images else Image(Path(scratch, stage.name))
            images[stage.name] = image
            if options.extras:
                stage.steps = [
                    (word, f"EXTRAS={options.extras}" if word == "ARG" and rest.startswith("EXTRAS") else rest)
                    for word, rest in stage.steps
                ]
            build(image, stage, images)
            if stage.name == options.target:
                break
        shutil.copy(CHECKOUT / "samples" / "angry.ogg", image.root / "data")
        serves(image)
        size = subprocess.run(["du", "-sm", str(image.root / "venv")], capture_output=True, text=True, check=True)
        print(f"{options.target}: every step ran, and it is healthy; {size.stdout.split()[0]} MB in /venv")


if __name__ == "__main__":
    main()
