"""The listener's CSR and certificate in the register example, the same bytes at each run."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from keys import LISTENER

NAME = "node.example.org"
AUTHORITY = ec.derive_private_key(int.from_bytes(bytes(range(0xB0, 0xD0)), "big"), ec.SECP256R1())


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def csr():
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(NAME))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    return builder.sign(LISTENER, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(serialization.Encoding.PEM).decode()


def certificate():
    utc = datetime.timezone.utc
    builder = (
        x509.CertificateBuilder().subject_name(_name(NAME)).issuer_name(_name("Golden test CA"))
        .public_key(LISTENER.public_key()).serial_number(42)
        .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=utc))
        .not_valid_after(datetime.datetime(2027, 1, 1, tzinfo=utc))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    )
    return builder.sign(AUTHORITY, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(serialization.Encoding.PEM).decode()
