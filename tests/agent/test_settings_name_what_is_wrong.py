"""Settings come from flags, variables, a file and defaults, in that order; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.agent.settings import load_agent, load_hub
from isthmus.errors import ConfigError


def test_flags_go_before_variables_before_the_file_before_defaults(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("cluster: from-file\nregion: from-file\nzone: from.file\n")
    found = load_agent(
        {"cluster": "from-flag"},
        {"ISTHMUS_CLUSTER": "from-variable", "ISTHMUS_REGION": "from-variable"},
        file,
    )
    assert (found.cluster, found.region, found.zone) == ("from-flag", "from-variable", "from.file")
    assert found.dns_workers == 1


def test_a_missing_setting_is_named_with_its_flag_and_variable() -> None:
    with pytest.raises(ConfigError, match=r"--cluster \(or ISTHMUS_CLUSTER\) is needed"):
        load_agent({}, {})


def test_an_unknown_key_in_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "hub.yaml"
    file.write_text("hub_kubeconfigg: x\n")
    with pytest.raises(ConfigError, match=r"hub\.yaml: unknown setting 'hub_kubeconfigg'"):
        load_hub({}, {}, file)


@pytest.mark.parametrize("content", ["- a list\n", "a: [unclosed\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_hub({}, {}, file)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_hub({}, {}, Path("nowhere.yaml"))


@pytest.mark.parametrize("cluster", ["", "Upper", "a_b", "-a", "a-", "a.b.c", "a" * 64, "a..b", "ä"])
def test_what_is_no_cluster_id_is_refused(cluster: str) -> None:
    with pytest.raises(ConfigError, match="--cluster"):
        load_agent({"cluster": cluster}, {})


@pytest.mark.parametrize("cluster", ["eu-1", "a", "eu-1.prod", "a" * 63, "1a"])
def test_one_and_two_label_cluster_ids_are_taken(cluster: str) -> None:
    assert load_agent({"cluster": cluster}, {}).cluster == cluster


@pytest.mark.parametrize("listen", ["5353", ":5353", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_what_is_no_address_with_a_port_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"ISTHMUS_DNS_LISTEN.*HOST:PORT"):
        load_agent({"cluster": "a"}, {"ISTHMUS_DNS_LISTEN": listen})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("10.96.0.10", "10.96.0.10:53"),
        ("10.96.0.10:5353, fd00::10,[fd00:0::11]:54", "10.96.0.10:5353,[fd00::10]:53,[fd00::11]:54"),
    ],
)
def test_servers_to_forward_to_get_the_port_of_dns_where_none_is_said(text: str, found: str) -> None:
    assert load_agent({"cluster": "eu-1", "dns_forward": text}, {}).dns_forward == found


@pytest.mark.parametrize(
    "text", ["kube-dns", "10.96.0.10:dns", "10.96.0.10:0", "10.96.0.10;10.96.0.11", "[fd00::1]:"]
)
def test_what_is_no_server_to_forward_to_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--dns-forward.*is not ADDRESS or ADDRESS:PORT"):
        load_agent({"cluster": "eu-1", "dns_forward": text}, {})


def test_a_state_directory_too_long_for_its_sockets_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose a shorter path"):
        load_agent({"cluster": "a", "state_dir": "/" + "x" * 100}, {})


XDS = {"cluster": "eu-1", "xds_listen": "0.0.0.0:18000"}
PEM = {"xds_cert": "server.crt", "xds_key": "server.key", "xds_ca": "ca.crt"}


@pytest.mark.parametrize("listen", ["127.0.0.1:18000", "[::1]:18000", "localhost:18000", "127.8.9.1:0"])
def test_xds_is_plain_text_on_loopback(listen: str) -> None:
    assert load_agent({"cluster": "eu-1", "xds_listen": listen}, {}).xds_cert is None


@pytest.mark.parametrize("listen", ["0.0.0.0:18000", "[::]:18000", "10.0.0.1:18000", "xds.example:18000"])
def test_xds_beyond_loopback_needs_certificates_or_a_word(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"--xds-listen .*--xds-cert, .*--xds-plaintext"):
        load_agent({**XDS, "xds_listen": listen}, {})
    assert load_agent({**XDS, "xds_listen": listen, "xds_plaintext": True}, {}).xds_plaintext
    assert load_agent({**XDS, "xds_listen": listen}, {"ISTHMUS_XDS_PLAINTEXT": "true"}).xds_plaintext
    assert load_agent({**XDS, "xds_listen": listen, **PEM}, {}).xds_ca == Path("ca.crt")
    assert load_agent({**XDS, "xds_listen": listen, "xds_workers": 0}, {}).xds_workers == 0


def test_half_of_mtls_is_refused_with_what_is_missing() -> None:
    for missing in PEM:
        flags = {**XDS, **{name: value for name, value in PEM.items() if name != missing}}
        with pytest.raises(ConfigError, match=f"--{missing.replace('_', '-')}: needed"):
            load_agent(flags, {})


def test_certificates_and_plain_text_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="--xds-plaintext"):
        load_agent({**XDS, **PEM, "xds_plaintext": True}, {})
