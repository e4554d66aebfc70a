"""Signing certificates for tests, which nobody trusts."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any


def write_certificate(folder: Path, *, key: Any = None, days: int = 2) -> tuple[Path, Path]:
    """Write a certificate chain with its private key, and the root certificate, as PEM files.

    Args:
        folder: Where.
        key: Private key of the signer; by default a new one on the curve P-256.
        days: Days from now to its expiry, negative if it has expired; it began ten days earlier.

    Returns:
        The file of the chain and key, and the file of the root.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)

    def certificate(subject: str, key: Any, issuer: str, issuer_key: Any) -> bytes:
        is_root = subject == issuer
        usage = {"digital_signature": True, "key_cert_sign": is_root, "crl_sign": is_root}
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        usage |= dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
        names = [
            x509.Name(
                [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(NameOID.COMMON_NAME, n)]
            )
            for n in (subject, issuer)
        ]
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(end - datetime.timedelta(days=days + 10 if days > 0 else 10))
        builder = builder.not_valid_after(end).add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        builder = builder.add_extension(identifier, critical=False)
        if not is_root:
            purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purposes, critical=False)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root_key = ec.generate_private_key(ec.SECP256R1())
    key = key or ec.generate_private_key(ec.SECP256R1())
    root = certificate("Root", root_key, "Root", root_key)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain_file, root_file = folder / "signer.pem", folder / "root.pem"
    chain_file.write_bytes(certificate("Photographer", key, "Root", root_key) + root + private)
    root_file.write_bytes(root)
    return chain_file, root_file
