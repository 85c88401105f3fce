"""kubeconfig files, the service account of a pod, and errors that say what to do."""

from __future__ import annotations

import base64
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.errors import ConfigError
from isthmus.kube.config import Access, load_access
from isthmus.kube.credentials import Files, User


def certificate(name: str) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def write(path: Path, *, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "eu",
        "preferences": {},
        "contexts": [
            {"name": "eu", "context": {"cluster": "c-eu", "user": "me", "namespace": "shop"}},
            {"name": "us", "context": {"cluster": "c-us", "user": "me"}},
        ],
        "clusters": [
            {"name": "c-eu", "cluster": {"server": "https://eu.example:6443/", **cluster}},
            {"name": "c-us", "cluster": {"server": "http://us.example:8001"}},
        ],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


async def headers(access: Access) -> dict[str, str]:
    return dict((await access.source.credentials()).headers)


async def test_the_current_context_is_used_unless_another_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "config")
    eu, us = load_access(path, None), load_access(path, "us")
    assert (eu.name, eu.server, eu.namespace) == ("eu", "https://eu.example:6443", "shop")
    assert (us.name, us.server, us.namespace) == ("us", "http://us.example:8001", "default")
    assert (await eu.source.credentials()).tls is not None
    assert (await us.source.credentials()).tls is None


async def test_tokens_files_and_passwords_become_headers(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    for user, expected in (
        (None, {}),
        ({"token": "inline"}, {"Authorization": "Bearer inline"}),
        ({"tokenFile": "token", "token": "inline"}, {"Authorization": "Bearer from-file"}),
        ({"username": "a", "password": "b"}, {"Authorization": "Basic YTpi"}),
    ):
        assert await headers(load_access(write(tmp_path / "config", user=user), None)) == expected


@pytest.mark.parametrize("inline", [True, False])
async def test_certificates_are_read_from_data_and_from_files_beside_the_kubeconfig(
    tmp_path: Path, inline: bool
) -> None:
    ca, (cert, key) = certificate("ca")[0], certificate("me")
    if inline:
        encoded = [base64.b64encode(pem).decode() for pem in (ca, cert, key)]
        cluster = {"certificate-authority-data": encoded[0]}
        user = {"client-certificate-data": encoded[1], "client-key-data": encoded[2]}
    else:
        for name, pem in (("ca.crt", ca), ("me.crt", cert), ("me.key", key)):
            (tmp_path / name).write_bytes(pem)
        cluster = {"certificate-authority": "ca.crt"}
        user = {"client-certificate": "me.crt", "client-key": str(tmp_path / "me.key")}
    access = load_access(write(tmp_path / "config", user=user, **cluster), None)
    context = (await access.source.credentials()).tls
    assert context is not None
    assert [str(each["subject"]) for each in context.get_ca_certs()] == ["((('commonName', 'ca'),),)"]
    assert context.verify_mode == ssl.CERT_REQUIRED


async def test_verification_is_turned_off_only_on_demand(tmp_path: Path) -> None:
    access = load_access(write(tmp_path / "config", **{"insecure-skip-tls-verify": True}), None)
    context = (await access.source.credentials()).tls
    assert context is not None
    assert context.verify_mode == ssl.CERT_NONE
    named = load_access(write(tmp_path / "config", **{"tls-server-name": "kube.internal"}), None)
    assert named.server_name == "kube.internal"


async def test_a_rotated_certificate_makes_a_new_context_and_an_unchanged_one_does_not(
    tmp_path: Path,
) -> None:
    now = 0.0
    ca = tmp_path / "ca.crt"
    ca.write_bytes(certificate("one")[0])
    source = Files(where="test", encrypted=True, ca=ca, clock=lambda: now)
    first = (await source.credentials()).tls
    now = 61.0
    assert (await source.credentials()).tls is first
    ca.write_bytes(certificate("two")[0])
    assert (await source.credentials()).tls is first
    now = 122.0
    second = (await source.credentials()).tls
    assert second is not None
    assert "two" in str(second.get_ca_certs()[0]["subject"])


async def test_a_token_file_that_vanishes_keeps_the_last_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    source = Files(where="test", encrypted=False, user=User(token_file=token))
    await source.credentials()
    token.unlink()
    assert (await source.credentials(renew=True)).headers == {"Authorization": "Bearer one"}


async def test_a_plugin_user_is_asked_through_the_kubernetes_package(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.sh"
    plugin.write_text(
        '#!/bin/sh\necho \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
        ' "status": {"token": "from-plugin"}}\'\n'
    )
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin.sh",
            "interactiveMode": "Never",
        }
    }
    access = load_access(write(tmp_path / "config", user=user), None)
    assert await headers(access) == {"Authorization": "Bearer from-plugin"}


async def test_a_plugin_that_fails_is_a_clear_error(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent/plugin"}}
    access = load_access(write(tmp_path / "config", user=user), None)
    with pytest.raises(ConfigError, match="context 'eu': the credential plugin gave neither"):
        await access.source.credentials()


async def test_in_a_pod_the_service_account_is_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pod")
    (tmp_path / "ca.crt").write_bytes(certificate("ca")[0])
    (tmp_path / "namespace").write_text("isthmus-system\n")
    access = load_access(None, None, service_account=tmp_path)
    assert access.server == "https://kubernetes.default.svc:443"
    assert access.namespace == "isthmus-system"
    assert await headers(access) == {"Authorization": "Bearer pod"}
    where = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert (
        load_access(None, None, environment=where, service_account=tmp_path).server
        == "https://[fd00::1]:6443"
    )


def test_errors_name_the_file_the_context_and_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "config")
    with pytest.raises(ConfigError, match="no context 'asia'; the file has eu, us"):
        load_access(path, "asia")
    with pytest.raises(ConfigError, match=r"cannot read kubeconfig .*missing: No such file.*--kubeconfig"):
        load_access(tmp_path / "missing", None)
    with pytest.raises(ConfigError, match=r"not in a pod: there is no .*token; name a kubeconfig"):
        load_access(None, None, service_account=tmp_path)
    with pytest.raises(ConfigError, match="'socks5://x' is not an http proxy"):
        load_access(write(tmp_path / "config", **{"proxy-url": "socks5://x"}), None)
    for text, message in (
        ("a: [", "is not YAML"),
        ("clusters: 7", r"is not a kubeconfig: .*\$\.clusters"),
        ("{}", "no current-context; the file has no contexts"),
        ("current-context: a\ncontexts: [{name: a, context: {cluster: x}}]", "there is no cluster 'x'"),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: x, user: u}}]\n"
            "clusters: [{name: x, cluster: {server: 'https://x'}}]",
            "there is no user 'u'",
        ),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: x}}]\n"
            "clusters: [{name: x, cluster: {server: 'x:1'}}]",
            "server 'x:1' is not an http or https URL",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_access(path, None)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"client-certificate-data": "AAAA"}, "a client certificate without its key"),
        ({"client-certificate-data": "AAAA", "client-key-data": "AAAA"}, "certificate and key do not fit"),
        ({"tokenFile": "nowhere"}, "cannot read token file"),
        ({"client-certificate-data": "A", "client-key-data": "A"}, "is not base64"),
    ],
)
async def test_credentials_that_cannot_be_used_are_named(
    tmp_path: Path, user: dict[str, str], message: str
) -> None:
    access = load_access(write(tmp_path / "config", user=user), None)
    with pytest.raises(ConfigError, match=message):
        await access.source.credentials()


async def test_an_authority_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    access = load_access(write(tmp_path / "config", **{"certificate-authority-data": "Z2FyYmFnZQ=="}), None)
    with pytest.raises(ConfigError, match="certificate authority"):
        await access.source.credentials()


YAMLISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["clusters", "contexts", "users", "current-context", "name", "cluster", "user", "context"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(YAMLISH)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_document_is_a_kubeconfig_or_a_clear_error(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document))
    with suppress(ConfigError):
        load_access(path, None)
