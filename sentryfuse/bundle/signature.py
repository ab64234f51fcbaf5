"""Who wrote a bundle: a signature in a file beside it, made and checked by the library `cryptography`.

`BUNDLE.sig` holds one line: the version of this form, the key's number, and an Ed25519 signature over the
SHA-512 of every byte of the bundle. It lies beside the bundle and not inside, because then

- the bundle is the same file with and without it, so that a reader without the library, or of an older
  version, reads it as before;
- no byte is left out, and nothing has to be said about how the rest is put into order before it is digested;
- it is checked before anything of the bundle is understood: bytes of a stranger meet no parser.

What it costs: two files travel together. One without the other is refused where a key is asked for.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentryfuse.errors import ConfigError, SignatureError
from sentryfuse.files import write_atomically, write_text

SUFFIX = ".sig"
PRIVATE, PUBLIC = ".pem", ".pub.pem"
SHOWN = 16  # letters of a key's number in a sentence
_SUBJECT = b"sentryfuse bundle, signature 1\n"  # so that a key's other signatures mean nothing here
_LINE = re.compile(r"sentryfuse-signature 1 ([0-9a-f]{64}) ([0-9a-f]{128})\n", re.ASCII)
_LENGTH = len("sentryfuse-signature 1  \n") + 64 + 128
_LARGEST_KEY = 65_536  # bytes of a file; one of ours has 119


@dataclass(frozen=True)
class Verifier:
    """A public key.

    Attributes:
        name: the file it is from, for messages.
        key_id: SHA-256 of its 32 bytes, hexadecimal; what a signature calls it.
        key: of the library.
    """

    name: str
    key_id: str
    key: Any

    def check(self, path: str | Path, content: bytes | bytearray) -> None:
        """Refuse content that this key has not signed.

        Args:
            path: of the bundle, beside which its signature lies.
            content: every byte of it.

        Raises:
            SignatureError: not signed, signed with another key, or changed since; without the path.
        """
        from cryptography.exceptions import InvalidSignature

        beside = signature_of(path)
        if not beside.exists() and Path(path).is_symlink():
            beside = signature_of(Path(path).resolve())  # so that one link switches both
        try:
            with beside.open("rb") as stream:
                said = stream.read(_LENGTH + 1)
        except FileNotFoundError:
            raise SignatureError(
                f"is not signed: there is no {beside.name} beside it; export it with --sign, or copy that "
                "file as well"
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SignatureError(f"has a signature {beside.name} that cannot be read: {reason}") from None
        found = _LINE.fullmatch(said.decode("ascii", "replace"))
        if found is None:
            raise SignatureError(f"has a damaged signature {beside.name}; copy both files again")
        if found[1] != self.key_id:
            raise SignatureError(
                f"is signed with another key, {found[1][:SHOWN]}, and {self.name} is "
                f"{self.key_id[:SHOWN]}; get it from whom you trust, or verify with their key"
            )
        try:
            self.key.verify(bytes.fromhex(found[2]), _digest(content))
        except InvalidSignature:
            raise SignatureError(
                f"is not what was signed with {self.name}: it or its {SUFFIX} was changed since; copy both "
                "files again"
            ) from None


@dataclass(frozen=True)
class Signer:
    """A private key.

    Attributes:
        key_id: of its public key, see `Verifier`.
        key: of the library.
    """

    key_id: str
    key: Any

    def line(self, content: bytes) -> str:
        """What stands in the file beside a bundle of this content."""
        return f"sentryfuse-signature 1 {self.key_id} {self.key.sign(_digest(content)).hex()}\n"

    def write(self, path: str | Path, line: str) -> None:
        """Put a signature beside its bundle, whole or not at all.

        Raises:
            InputError: the system refuses to write.
        """
        write_text(signature_of(path), line)


def signature_of(path: str | Path) -> Path:
    """Where the signature of a bundle lies."""
    return Path(f"{Path(path)}{SUFFIX}")


def read_signer(path: str | Path) -> Signer:
    """The private key in a PEM file.

    Raises:
        ConfigError: no such file, or not a private Ed25519 key without a password.
        ModuleNotFoundError: the library is not installed.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _loaded(path, "private", lambda pem: load_pem_private_key(pem, password=None), Ed25519PrivateKey)
    return Signer(_id_of(key.public_key()), key)


def read_verifier(path: str | Path) -> Verifier:
    """The public key in a PEM file.

    Raises:
        ConfigError: no such file, or not a public Ed25519 key; a private one as well, which has no place on a
            device.
        ModuleNotFoundError: the library is not installed.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _loaded(path, "public", load_pem_public_key, Ed25519PublicKey)
    return Verifier(Path(path).name, _id_of(key), key)


def write_keys(name: str | Path) -> tuple[Path, Path, str]:
    """Make a pair of keys.

    Args:
        name: `NAME.pem`, which signs and only its owner may read, and `NAME.pub.pem`, which verifies.

    Returns:
        The two files, and the number of the key.

    Raises:
        ConfigError: one of the files exists; a key is never replaced.
        InputError: the system refuses to write.
        ModuleNotFoundError: the library is not installed.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, public = Path(f"{Path(name)}{PRIVATE}"), Path(f"{Path(name)}{PUBLIC}")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path} exists, and a key is never replaced; choose another --out")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    shown = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    with write_atomically(private, mode=0o600) as draft:
        draft.write_bytes(secret)
    with write_atomically(public) as draft:
        draft.write_bytes(shown)
    return private, public, _id_of(key.public_key())


def _digest(content: bytes | bytearray) -> bytes:
    return _SUBJECT + hashlib.sha512(content).digest()


def _id_of(key: Any) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _loaded(path: str | Path, what: str, load: Any, kind: type[Any]) -> Any:
    """A key of one kind from a file, or one sentence."""
    from cryptography.exceptions import UnsupportedAlgorithm

    path = Path(path)
    try:
        with path.open("rb") as stream:
            pem = stream.read(_LARGEST_KEY + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no key {path}; make a pair with `sentryfuse keys --out NAME`, or check the name"
        ) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(f"the key {path} cannot be read ({reason}); check the path") from None
    other = b"PUBLIC KEY-" if what == "private" else b"PRIVATE KEY-"
    if other in pem:
        use = f"sign with NAME{PRIVATE}" if what == "private" else f"verify with NAME{PUBLIC}"
        is_other = "public" if what == "private" else "private"
        raise ConfigError(f"{path} is a {is_other} key and a {what} one is needed; {use}")
    try:
        key = load(pem) if len(pem) <= _LARGEST_KEY else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None  # TypeError: it is locked with a password
    if not isinstance(key, kind):
        raise ConfigError(
            f"{path} is not a {what} Ed25519 key in PEM without a password; make one with "
            "`sentryfuse keys --out NAME`"
        )
    return key
