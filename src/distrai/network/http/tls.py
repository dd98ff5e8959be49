"""The TLS key of a peer: made by itself, signed by nobody, thrown away with its home.

What it is worth comes from the node key alone: that signs the certificate's fingerprint, in the peer's endpoint record
and in the answer to a challenge. Clients look at the fingerprint and at nothing else: no name, no date, no authority.
"""

import datetime as dt
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FILE = "tls.pem"
FINGERPRINT_SIZE = 32
_MODE, _MODE_OF_OTHERS = 0o600, 0o077
_FIRST_DAY = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_LAST_DAY = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)


class BadTlsKey(ValueError):
    """A file holds no TLS key and certificate that belong together."""


@dataclass(frozen=True)
class TlsKey:
    """A private key with its certificate. ``fingerprint``: SHA-256 of the certificate's DER encoding."""

    pem: bytes = field(repr=False)
    fingerprint: bytes

    @classmethod
    def generate(cls) -> "TlsKey":
        """A new key, in memory alone."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "distrai")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FIRST_DAY)
            .not_valid_after(_LAST_DAY)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls.from_pem(private + certificate.public_bytes(serialization.Encoding.PEM))

    @classmethod
    def from_pem(cls, pem: bytes) -> "TlsKey":
        """A key and its certificate as they are kept. Raises BadTlsKey."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError) as error:
            raise BadTlsKey(f"no TLS key with a certificate: {error}") from None
        if key.public_key() != certificate.public_key():
            raise BadTlsKey("the TLS certificate is not of the key beside it")
        return cls(pem, certificate.fingerprint(hashes.SHA256()))

    @classmethod
    def open(cls, path: Path) -> "TlsKey":
        """The key in a file, which is made where there is none, and anew where it is damaged or was open to others."""
        try:
            with path.open("rb") as file:
                if not os.fstat(file.fileno()).st_mode & _MODE_OF_OTHERS:
                    return cls.from_pem(file.read())
        except (FileNotFoundError, BadTlsKey):
            pass  # nothing is lost: the node key certifies another one
        made = cls.generate()
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
            file.write(made.pem)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return made

    def server_context(self) -> ssl.SSLContext:
        """What a server listens with: TLS 1.3 and nothing older; clients show no certificate, they sign."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with (
            tempfile.NamedTemporaryFile() as file
        ):  # only the owner may read it; OpenSSL takes nothing but files
            file.write(self.pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context
