"""A certificate authority for one run, and the certificate of the peer that it signed."""

import trustme

from paths import CERTIFICATES


def make_certificates():
    """Writes ca.pem, server.pem and server.key. RSA with 2,048 bits, as S3 uses it."""
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    server = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    authority.cert_pem.write_to_path(CERTIFICATES / "ca.pem")
    server.private_key_pem.write_to_path(CERTIFICATES / "server.key")
    [certificate] = server.cert_chain_pems
    certificate.write_to_path(CERTIFICATES / "server.pem")
