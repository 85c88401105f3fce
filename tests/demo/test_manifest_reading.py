"""Reading manifests: what is found, and what a bad one says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.demo.manifests import read_manifests, require_services
from isthmus.errors import ConfigError

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
SERVICE = """apiVersion: v1
kind: Service
metadata:
  name: front
spec:
  selector: {app: front}
  ports:
  - {name: http, port: 80}
"""


def written(folder: Path, text: str, name: str = "shop.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def complaint(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_manifests(path)
    return str(caught.value)


def test_the_shop_has_headless_http_grpc_and_plain_tcp_services() -> None:
    found = read_manifests(SHOP)
    by_name = {service.metadata.name: service.spec for service, _ in found.services}
    assert by_name["orders"].cluster_ip == "None"
    assert by_name["cache"].ports[0].port == 6379
    assert by_name["cart"].ports[0].name == "grpc"
    assert len(by_name) >= 4
    assert {p["metadata"]["name"] for p in found.policies} == set(by_name)


def test_a_file_that_is_not_yaml_is_named_with_document_and_line(tmp_path: Path) -> None:
    file = written(tmp_path, f"{SERVICE}---\na: b\n  c: [d\n")
    assert complaint(file).startswith(f"{file}: document 2, line 11: not YAML")


def test_a_document_that_is_not_kubernetes_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, f"# nothing yet\n---\n{SERVICE}---\n# a list\n- 1\n")
    assert (
        complaint(file)
        == f"{file}: document 2, line 13: not a Kubernetes object: it has no apiVersion and kind"
    )


def test_an_unknown_kind_is_named_and_lenient_goes_on_without_it(tmp_path: Path) -> None:
    file = written(tmp_path, f"apiVersion: v9\nkind: Teapot\nmetadata: {{name: t}}\n---\n{SERVICE}")
    assert "document 1, line 1: kind 'Teapot' is not known here" in complaint(file)
    found = read_manifests(file, lenient=True)
    assert [service.metadata.name for service, _ in found.services] == ["front"]
    assert len(found.complaints) == 1


def test_a_wrong_type_is_named_with_its_own_line(tmp_path: Path) -> None:
    file = written(tmp_path, SERVICE.replace("{name: http, port: 80}", "name: http\n    port: eighty"))
    assert complaint(file).startswith(f"{file}: document 1, line 9: Service: Expected `int`, got `str`")


def test_a_port_out_of_range_is_named_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, SERVICE.replace("80", "80000"))
    assert "line 8: Service front: port 80000 is not in 1..65535" in complaint(file)


def test_a_bad_name_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, SERVICE.replace("name: front", "name: Front_1"))
    assert "line 4: metadata.name of this Service is 'Front_1', not a DNS label" in complaint(file)


def test_the_same_service_twice_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, f"{SERVICE}---\n{SERVICE}")
    assert "document 2, line 10: Service default/front is given a second time" in complaint(file)


def test_no_services_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
    with pytest.raises(ConfigError, match="holds 0 Services"):
        require_services(read_manifests(file), file)


def test_a_missing_file_an_empty_folder_and_binary_are_said(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.yaml").endswith("no such file or folder")
    assert "no .yaml, .yml or .json file" in complaint(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00kind")
    assert "not UTF-8" in complaint(binary)


def test_lists_nulls_json_and_times_are_read_as_kubernetes_does(tmp_path: Path) -> None:
    item = SERVICE.replace("\n", "\n    ").replace("metadata:", "metadata:\n      creationTimestamp: null")
    file = written(tmp_path, f"apiVersion: v1\nkind: List\nitems:\n-   {item}\n")
    assert len(read_manifests(file).services) == 1
    json = (
        '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "j"}, "spec": {"ports": [{"port": 1}]}}'
    )
    assert len(read_manifests(written(tmp_path, json, "s.json")).services) == 1
    dated = SERVICE.replace("  name: front", "  name: front\n  annotations: {since: 2026-01-01}")
    service, _ = read_manifests(written(tmp_path, dated, "dated.yaml")).services[0]
    assert service.metadata.annotations == {"since": "2026-01-01"}


def test_a_workload_without_a_pod_template_is_named(tmp_path: Path) -> None:
    file = written(
        tmp_path, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 1}\n"
    )
    assert "document 1, line 1: Deployment d: its pod template cannot be read" in complaint(file)


@given(text=st.text(max_size=200) | st.text(alphabet="-:{}[]&*!|>'\"%@` \n\tabkind", max_size=200))
def test_no_text_breaks_the_reader(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="replace")
    read_manifests(file, lenient=True)
