"""A certificate authority for one run, and the certificate of the peer that it signed."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from paths import CERTIFICATES

VALID = datetime.timedelta(days=30)


def make_certificates():
    """Writes ca.pem, server.pem and server.key. RSA with 2,048 bits, as S3 uses it."""
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    authority, server = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    issuer = name("measured authority")
    ca = builder(issuer, issuer, authority).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    leaf = builder(name("measured S3"), issuer, server)
    for extension in (x509.BasicConstraints(ca=False, path_length=None), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
                      x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                      x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())):
        leaf = leaf.add_extension(extension, critical=False)
    ca = ca.add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False).add_extension(
        x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
    write("ca.pem", ca.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    write("server.pem", leaf.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    write("server.key", server.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def builder(subject, issuer, key):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - VALID).not_valid_after(now + VALID))


def write(file, content):
    CERTIFICATES.joinpath(file).write_bytes(content)
