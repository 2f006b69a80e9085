"""What lies in deploy/: it parses, agrees with the code, and asks for no needless rights."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest

from barrelman.settings.config import DEFAULT_LISTEN, split_listen
from barrelman.settings.configload import load_config
from barrelman.settings.webhook import apiserver_flags, kubeconfig_text, policy_text

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PORT = split_listen(DEFAULT_LISTEN)[1]


class Yaml:
    """Reads the YAML that is written here: blocks, texts, numbers, and lists on one line."""

    def __init__(self, text: str) -> None:
        self.lines = [
            (len(line) - len(line.lstrip()), line.strip())
            for line in text.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        ]
        self.raw = text.splitlines()
        self.at = 0

    def read(self) -> Any:
        value = self.block(self.lines[0][0])
        assert self.at == len(self.lines), self.lines[self.at]
        return value

    def block(self, indent: int) -> Any:
        if self.lines[self.at][1].startswith("- "):
            found = []
            while self.at < len(self.lines) and self.is_item(indent):
                rest = self.lines[self.at][1][2:]
                if re.match(r"[\w./-]+:( |$)", rest):
                    self.lines[self.at] = (indent + 2, rest)
                    found.append(self.block(indent + 2))
                else:
                    found.append(self.scalar(rest))
                    self.at += 1
            return found
        made: dict[str, Any] = {}
        while self.at < len(self.lines) and self.lines[self.at][0] == indent:
            if self.lines[self.at][1].startswith("- "):
                break
            key, colon, rest = self.lines[self.at][1].partition(":")
            assert colon, self.lines[self.at]
            assert key not in made, f"'{key}' twice"
            self.at += 1
            made[key] = self.value(rest.strip(), indent)
        return made

    def is_item(self, indent: int) -> bool:
        return self.lines[self.at][0] == indent and self.lines[self.at][1].startswith("- ")

    def value(self, rest: str, indent: int) -> Any:
        if rest == "|":
            return self.literal(indent)
        if rest:
            return self.scalar(rest)
        if self.at < len(self.lines):
            deeper, line = self.lines[self.at]
            if deeper > indent or (deeper == indent and line.startswith("- ")):
                return self.block(deeper)
        return None

    def literal(self, indent: int) -> str:
        first = self.lines[self.at][1]
        start = next(number for number, line in enumerate(self.raw) if line.strip() == first)
        taken = []
        for line in self.raw[start:]:
            if line.strip() and len(line) - len(line.lstrip()) <= indent:
                break
            taken.append(line[indent + 2 :])
        while self.at < len(self.lines) and self.lines[self.at][0] > indent:
            self.at += 1
        return "\n".join(taken) + "\n"

    @staticmethod
    def scalar(text: str) -> Any:
        assert " #" not in text, "a remark has a line of its own here"
        if text.startswith("["):
            return [each.strip().strip('"') for each in text.strip("[]").split(",")]
        if text.startswith("{"):
            assert text == "{}"
            return {}
        if text.startswith('"'):
            assert text.endswith('"')
            return text[1:-1]
        if text in ("true", "false"):
            return text == "true"
        return int(text) if re.fullmatch(r"\d+", text) else text


def manifest(name: str) -> Any:
    return Yaml((DEPLOY / "kubernetes" / f"{name}.yaml").read_text()).read()


@pytest.fixture(scope="module")
def pod() -> Any:
    return manifest("deployment")["spec"]["template"]["spec"]


def test_the_policy_and_the_kubeconfig_are_what_the_commands_print() -> None:
    policy = (DEPLOY / "apiserver" / "audit-policy.yaml").read_text()
    assert policy == policy_text(), "barrelman config policy > deploy/apiserver/audit-policy.yaml"
    kubeconfig = (DEPLOY / "apiserver" / "audit-webhook-kubeconfig.yaml").read_text()
    assert kubeconfig == kubeconfig_text(
        f"https://barrelman.example:{PORT}",
        "my-cluster",
        token="PASTE-THE-KEY-HERE",
        ca_file="/etc/kubernetes/barrelman-ca.pem",
    )


def test_yaml_of_the_api_server_parses() -> None:
    policy = Yaml(policy_text()).read()
    assert policy["kind"] == "Policy"
    assert {rule["level"] for rule in policy["rules"]} == {
        "None",
        "Metadata",
        "Request",
        "RequestResponse",
    }
    kubeconfig = Yaml(kubeconfig_text("https://b", "c", token="t")).read()
    assert kubeconfig["users"][0]["user"] == {"token": "t"}
    assert kubeconfig["contexts"][0]["context"]["user"] == kubeconfig["users"][0]["name"]
    assert kubeconfig["contexts"][0]["context"]["cluster"] == kubeconfig["clusters"][0]["name"]
    assert kubeconfig["contexts"][0]["name"] == kubeconfig["current-context"]


def test_the_flags_are_those_of_the_command() -> None:
    page = (DEPLOY / "apiserver" / "flags.md").read_text()
    shown = re.findall(r"(?m)^    (--\S+)$", page)
    wanted = [*apiserver_flags()]
    logged = [*apiserver_flags(log_path="/var/log/kubernetes/audit.log")]
    assert shown == [*wanted, *logged[len(wanted) :]]
    assert re.findall(r"(?m)^      - (audit-\S+)$", page) == [each[2:] for each in wanted]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest(path: Path) -> None:
    found = Yaml(path.read_text()).read()
    assert found["apiVersion"]
    if found["kind"] == "Kustomization":
        assert {f"{name}" for name in found["resources"]} == {
            each.name for each in MANIFESTS if each != path
        }
        return
    assert found["metadata"]["name"] == "barrelman"
    assert found["kind"] == "Namespace" or found["metadata"]["namespace"] == "barrelman"
    assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "barrelman"


def test_the_pod_has_no_rights(pod: Any) -> None:
    """What Kubernetes calls the restricted profile, and a file system that cannot be written."""
    assert pod["automountServiceAccountToken"] is False
    assert manifest("serviceaccount")["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    labels = manifest("namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_one_process_owns_the_folder() -> None:
    spec = manifest("deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_names_and_ports_agree(pod: Any) -> None:
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == PORT
    (service_port,) = manifest("service")["spec"]["ports"]
    assert (service_port["port"], service_port["targetPort"]) == (PORT, port["name"])
    policy = manifest("networkpolicy")["spec"]
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": PORT}]
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        manifest("service")["spec"]["selector"],
        policy["podSelector"]["matchLabels"],
        manifest("deployment")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    volumes = {each["name"] for each in pod["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes
    claim = next(each for each in pod["volumes"] if each["name"] == "data")
    assert claim["persistentVolumeClaim"]["claimName"] == "barrelman"
    for probe, path in (
        ("startup", "/healthz"),
        ("liveness", "/healthz"),
        ("readiness", "/readyz"),
    ):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": path, "port": "https", "scheme": "HTTPS"}


def test_the_configuration_of_the_pod_is_right(pod: Any, tmp_path: Path) -> None:
    text = manifest("configmap")["data"]["barrelman.toml"]
    (container,) = pod["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert container["args"][-1] == f"{mounts['config']}/barrelman.toml"
    for name in ("tls.crt", "tls.key"):
        assert f'"{mounts["tls"]}/{name}"' in text
        (tmp_path / name).write_text("x")
    (tmp_path / "barrelman.toml").write_text(text.replace(mounts["tls"], str(tmp_path)))
    loaded = load_config(str(tmp_path / "barrelman.toml"), environment={})
    assert loaded.config is not None, loaded.errors
    assert split_listen(loaded.config.server.listen) == ("0.0.0.0", PORT)
    assert loaded.config.store.data == mounts["data"]
    assert pod["terminationGracePeriodSeconds"] > loaded.config.server.stop_seconds


def test_the_image() -> None:
    """Its environment is a configuration, and nobody in it is root."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    (variables,) = re.findall(r"(?m)^ENV (.*)$", text)
    environment = dict(each.split("=", 1) for each in variables.split())
    loaded = load_config(None, environment=environment)
    assert loaded.config is not None, loaded.errors
    assert loaded.config.store.data == "/data"
    assert split_listen(loaded.config.server.listen)[1] == PORT
    assert re.findall(r"(?m)^USER (.*)$", text) == ["65532:65532"]
    assert f"EXPOSE {PORT}\n" in text
    assert "'.[serve]'" in text
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", text)
    sources = [name for each in copied for name in each.split()]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert sources == [line[1:] for line in ignored if line.startswith("!")]
    assert all((ROOT / name).exists() for name in sources)


def test_the_unit() -> None:
    unit = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    unit.read(DEPLOY / "systemd" / "barrelman.service")
    service = unit["Service"]
    assert service["User"] == "barrelman"
    assert service["CapabilityBoundingSet"] == ""
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome"):
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict"
    assert int(service["TimeoutStopSec"]) > 20
    name, _, value = service["Environment"].partition("=")
    loaded = load_config(None, environment={name: value})
    assert loaded.config is not None, loaded.errors
    assert value == f"/var/lib/{service['StateDirectory']}"
    users = (DEPLOY / "systemd" / "barrelman.sysusers.conf").read_text()
    assert f"u {service['User']} " in users
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_the_page_names_what_there_is() -> None:
    page = (DEPLOY / "README.md").read_text()
    for name in ("systemd/barrelman.service", "deploy/Dockerfile", "deploy/kubernetes", "flags.md"):
        assert name in page
    for command in re.findall(r"barrelman (config|keys|search|serve|ingest)\b", page):
        assert (ROOT / "src/barrelman/cli" / f"{command}.py").exists(), command
    assert str(PORT) in page
