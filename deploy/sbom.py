"""Writes the software bill of materials that every wheel holds, as CycloneDX 1.6: ``python deploy/sbom.py``.

It tells what no metadata of the wheel tells: the weights with their hashes and origins, and what of npm is bundled in
the page (PEP 770 puts it into ``.dist-info/sboms``). Declared dependencies are listed as they are declared, by ranges:
which version runs is chosen where e2vsearch is installed. The file is tracked. It has no time and no random number in
it, and so is the same wherever it is made of the same checkout; a test compares it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
WRITTEN = HERE / "e2vsearch.cdx.json"
WEIGHTS = CHECKOUT / "e2vsearch" / "encoders" / "data"

WHISPER = {
    "type": "machine-learning-model",
    "name": "whisper-tiny.en",
    "licenses": [{"license": {"id": "MIT"}}],
    "externalReferences": [{"type": "vcs", "url": "https://github.com/openai/whisper"}],
}
CREMA_D = {
    "type": "data",
    "name": "CREMA-D",
    "licenses": [{"license": {"id": "ODbL-1.0"}}],
    "externalReferences": [{"type": "vcs", "url": "https://github.com/CheyneyComputerScience/CREMA-D"}],
}
EMO_DB = {
    "type": "data",
    "name": "EMO-DB",
    "licenses": [{"license": {"id": "CC0-1.0"}}],
    "externalReferences": [{"type": "website", "url": "http://emodb.bilderbar.info"}],
}
"""Sources of the weights, as in NOTICE. No recording is contained."""


def bill() -> dict[str, Any]:
    """Return the bill of materials of this checkout."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (CHECKOUT / "e2vsearch" / "_version.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    name = f"pkg:pypi/{project['name']}@{version}"
    components = [*weights(), *bundled(), *declared(project)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "library",
                "bom-ref": name,
                "name": project["name"],
                "version": version,
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": name,
                "externalReferences": [{"type": "vcs", "url": project["urls"]["Source"]}],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": name, "dependsOn": sorted(each["bom-ref"] for each in components)},
            *({"ref": each["bom-ref"]} for each in components),
        ],
    }


def weights() -> Iterator[dict[str, Any]]:
    """Yield each file of weights, with its hash and what it was made of."""
    for path in sorted(each for each in WEIGHTS.iterdir() if each.suffix in (".onnx", ".npz")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield {
            "type": "machine-learning-model",
            "bom-ref": f"e2vsearch/encoders/data/{path.name}",
            "name": f"e2vsearch/encoders/data/{path.name}",
            "version": digest[:12],
            "description": "weights of the encoder light",
            "hashes": [{"alg": "SHA-256", "content": digest}],
            "licenses": [{"license": {"id": "Apache-2.0"}}],
            "pedigree": {"ancestors": [WHISPER, CREMA_D, EMO_DB], "notes": "NOTICE has what each is used for"},
        }


def bundled() -> Iterator[dict[str, Any]]:
    """Yield each package of npm that is bundled in the page: those that do not only build it."""
    lock = json.loads((CHECKOUT / "page" / "package-lock.json").read_text(encoding="utf-8"))
    for path, package in sorted(lock["packages"].items()):
        if not path or package.get("dev"):
            continue
        name = path.rpartition("node_modules/")[2]
        algorithm, _, digest = package["integrity"].partition("-")
        purl = f"pkg:npm/{name.replace('@', '%40')}@{package['version']}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": package["version"],
            "hashes": [{"alg": algorithm.upper().replace("SHA", "SHA-"), "content": base64.b64decode(digest).hex()}],
            "licenses": [{"license": {"id": package["license"]}}],
            "purl": purl,
            "properties": [{"name": "e2vsearch:place", "value": "e2vsearch/server/static"}],
        }


def declared(project: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each declared dependency once, with its ranges; one that only extras ask for is optional."""
    asked: dict[str, list[tuple[str, str]]] = {}
    extras = {name: each for name, each in project["optional-dependencies"].items() if name != "all"}
    for extra, requirements in {"": project["dependencies"], **extras}.items():
        for requirement in requirements:
            (name,) = re.findall(r"^[A-Za-z0-9._-]+", requirement)
            asked.setdefault(re.sub(r"[-_.]+", "-", name).lower(), []).append((extra, requirement))
    for name, places in sorted(asked.items()):
        yield {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}",
            "name": name,
            "scope": "required" if any(not extra for extra, _ in places) else "optional",
            "purl": f"pkg:pypi/{name}",
            "properties": [
                {"name": f"e2vsearch:required{f'-by-{extra}' if extra else ''}", "value": requirement}
                for extra, requirement in places
            ],
        }


def main() -> None:
    """Write the file."""
    WRITTEN.write_text(json.dumps(bill(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {WRITTEN.relative_to(CHECKOUT)}: {len(bill()['components'])} components")


if __name__ == "__main__":
    main()
