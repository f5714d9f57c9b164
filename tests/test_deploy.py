"""What `deploy/` holds is linted, and the services of the compose file run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "deploy"))

import build
import compose

yaml = pytest.importorskip("yaml", reason="the 'test-all' group is not installed")

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
MANIFESTS = sorted(path.name for path in (DEPLOY / "kubernetes").glob("*.yaml"))


def documents(name: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))


def pods() -> Iterator[dict[str, Any]]:
    """The pod of every workload, with its name."""
    for name in MANIFESTS:
        for each in documents(name):
            if each["kind"] in ("Deployment", "Job"):
                yield {"name": each["metadata"]["name"], **each["spec"]["template"]["spec"]}


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_an_image_runs_as_nobody_in_particular_and_checks_its_health() -> None:
    _, stages = build.parsed((DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    assert [stage.name for stage in stages] == ["page", "wheel", "cpu", "cuda"]
    for stage in stages[2:]:
        assert [rest for word, rest in stage.steps if word == "USER"][-1] == "10001:10001"
    (health,) = (rest for word, rest in stages[2].steps if word == "HEALTHCHECK")
    assert "/healthz" in health
    (command,) = (json.loads(rest) for word, rest in stages[2].steps if word == "CMD")
    assert command[0] == "serve"


def test_what_the_dockerfile_copies_is_there_and_let_through() -> None:
    _, stages = build.parsed((DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    for stage in stages:
        for rest in (rest for word, rest in stage.steps if word == "COPY" and "--from" not in rest):
            for source in rest.split()[:-1]:
                assert (DEPLOY.parent / source).exists(), source
                assert {source.split("/")[0], source} & let_through, source


def test_the_compose_file_is_as_its_specification_says() -> None:
    specification = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    for name, value in {**compose.SECRETS, "CALLS": "calls"}.items():
        text = re.sub(rf"\$\{{{name}[^}}]*\}}", value, text)
    services = yaml.safe_load(text)["services"]
    specification.PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(compose.filled(text, {}))))
    assert set(services) == {"postgres", "upgrade", "serve", "worker", "milvus"}
    assert services["milvus"]["profiles"] == ["milvus"]
    for name in ("upgrade", "serve", "worker"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
    assert services["serve"]["ports"] == ["127.0.0.1:${E2VSEARCH_PORT:-8080}:8080"]


def test_no_secret_is_written_in_the_compose_file() -> None:
    for name in compose.SECRETS:
        assert re.search(rf"\$\{{{name}:\?", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    with pytest.raises(SystemExit, match="POSTGRES_PASSWORD"):
        compose.filled("${POSTGRES_PASSWORD:?a password}", {})


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_as_kubernetes_says(name: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    known = 0
    for each in documents(name):
        if each["apiVersion"].partition("/")[0] in ("keda.sh", "monitoring.coreos.com", "kustomize.config.k8s.io"):
            continue  # of operators, whose schemas come with them
        validate.validate(each, "1.33", strict=True)
        known += 1
    assert known or name in ("kustomization.yaml", "scale.yaml", "metrics.yaml")


def test_the_kustomization_names_every_manifest_but_the_secret() -> None:
    (listed,) = documents("kustomization.yaml")
    assert sorted(listed["resources"]) == [
        name for name in MANIFESTS if name not in ("kustomization.yaml", "secret.example.yaml")
    ]


def test_pods_may_do_nothing_but_their_work() -> None:
    found = list(pods())
    assert {pod["name"] for pod in found} == {"e2vsearch-serve", "e2vsearch-worker", "e2vsearch-upgrade"}
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= set(container["resources"])


def test_workers_are_scaled_by_a_gauge_that_there_is() -> None:
    (scaled,) = documents("scale.yaml")
    assert scaled["spec"]["scaleTargetRef"]["name"] in {pod["name"] for pod in pods()}
    (trigger,) = scaled["spec"]["triggers"]
    (gauge,) = re.findall(r"e2vsearch_\w+", trigger["metadata"]["query"].partition(",")[0])
    source = (DEPLOY.parent / "e2vsearch" / "ingest" / "prometheus.py").read_text(encoding="utf-8")
    assert f'"{gauge}"' in source
    (scraped,) = documents("metrics.yaml")
    service = next(each for each in documents("serve.yaml") if each["kind"] == "Service")
    assert scraped["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert scraped["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.slow
def test_the_compose_files_services_go_from_a_bucket_to_a_query() -> None:
    for package in ("moto", "s3fs", "psycopg", "fastapi"):
        pytest.importorskip(package, reason="needs the extras remote, postgres and serve, and moto")
    command = [sys.executable, str(DEPLOY / "compose.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if "needs Postgres" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 5
