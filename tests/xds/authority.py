"""Certificates for tests, signed by an authority of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isthmus.tls import Files


class Authority:
    """Signs certificates; `folder` is where their files go."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._key.public_key(), self._subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = _pem(builder.sign(self._key, hashes.SHA256()))

    def _builder(
        self, key: ec.EllipticCurvePublicKey, subject: x509.Name, days: float = 1.0
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
        )

    def sign(
        self, uris: tuple[str, ...] = (), names: tuple[str, ...] = (), days: float = 1.0
    ) -> tuple[bytes, bytes]:
        """A certificate with these alternative names, and its key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(key.public_key(), x509.Name([]), days)
        others = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, names)]
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=True)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _pem(builder.sign(self._key, hashes.SHA256())), secret

    def files(self, stem: str, pair: tuple[bytes, bytes]) -> Files:
        """The pair in files of that stem, and the authority beside them."""
        found = Files(
            certificate=self.folder / f"{stem}.crt",
            key=self.folder / f"{stem}.key",
            authorities=self.folder / "ca.crt",
        )
        found.certificate.write_bytes(pair[0])
        found.key.write_bytes(pair[1])
        found.authorities.write_bytes(self.certificate)
        return found

    def client(self, pair: tuple[bytes, bytes] | None) -> grpc.ChannelCredentials:
        """What a gRPC client shows and trusts."""
        certificate, key = pair or (None, None)
        return grpc.ssl_channel_credentials(self.certificate, key, certificate)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
