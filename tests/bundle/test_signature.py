"""What is signed is what is read: another key, no signature or one other bit is refused. No torch."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.bundle import load_bundle
from sentryfuse.bundle.signature import read_signer, read_verifier, signature_of, write_keys
from sentryfuse.errors import BundleError, ConfigError, InputError, SignatureError
from sentryfuse.runtime import Runtime
from sentryfuse.stream import Packet, Source
from tests.tiny import GOLDEN

pytest.importorskip("cryptography", reason="signing is an extra; pip install 'sentryfuse[sign]'")
pytestmark = pytest.mark.device

CONTENT = (GOLDEN / "tiny-v3.bundle").read_bytes()


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A signed bundle, and the keys `ours` and `theirs`."""
    folder = tmp_path_factory.mktemp("signed")
    for name in ("ours", "theirs"):
        write_keys(folder / name)
    (folder / "m.bundle").write_bytes(CONTENT)
    signer = read_signer(folder / "ours.pem")
    signer.write(folder / "m.bundle", signer.line(CONTENT))
    return folder


@pytest.fixture
def copied(room, tmp_path) -> Path:
    """The same bundle, to be changed."""
    for name in ("m.bundle", "m.bundle.sig"):
        (tmp_path / name).write_bytes((room / name).read_bytes())
    return tmp_path / "m.bundle"


def refused(bundle: Path, key: Path, words: str) -> None:
    with pytest.raises(SignatureError, match=words) as caught:
        load_bundle(bundle, verify=key)
    assert str(bundle) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_signed_bundle_is_read_with_its_key_and_without(room):
    key = read_verifier(room / "ours.pub.pem").key_id
    verified, plain = (
        load_bundle(room / "m.bundle", verify=room / "ours.pub.pem"),
        load_bundle(room / "m.bundle"),
    )
    assert (verified.signed_by, plain.signed_by) == (key, "")
    assert verified.digest == plain.digest
    assert all((verified.weights[name] == value).all() for name, value in plain.weights.items())
    assert not any(value.flags.writeable for value in verified.weights.values())
    assert (room / "m.bundle").read_bytes() == CONTENT


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(CONTENT) - 1), flip=st.integers(1, 255))
def test_flipping_any_byte_is_refused(room, at, flip):
    # where it lies only decides which sentence would follow if the signature were not checked first
    changed = bytearray(CONTENT)
    changed[at] ^= flip
    target = room / "flipped.bundle"
    target.write_bytes(changed)
    signature_of(target).write_bytes(signature_of(room / "m.bundle").read_bytes())
    refused(target, room / "ours.pub.pem", "is not what was signed with ours.pub.pem")


def test_flipping_any_byte_of_the_signature_is_refused(room, copied):
    good = signature_of(copied).read_bytes()
    for at in range(len(good)):
        for flip in {1 << at % 8, 0x20}:  # 0x20 turns small letters into capitals
            changed = bytearray(good)
            changed[at] ^= flip
            signature_of(copied).write_bytes(changed)
            refused(copied, room / "ours.pub.pem", "signature|signed with")


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"", lambda c: c * 2])
def test_another_length_is_refused(room, copied, change):
    copied.write_bytes(change(CONTENT))
    refused(copied, room / "ours.pub.pem", "is not what was signed")


def test_another_key_and_no_signature_are_told_apart(room, copied):
    refused(copied, room / "theirs.pub.pem", "is signed with another key, .* and theirs.pub.pem is")
    signature_of(copied).unlink()
    refused(copied, room / "ours.pub.pem", "is not signed: there is no m.bundle.sig")
    signature_of(copied).mkdir()
    refused(copied, room / "ours.pub.pem", "signature m.bundle.sig that cannot be read")


def test_a_signature_under_the_name_of_our_key_by_another_is_refused(room, copied):
    theirs, ours = read_signer(room / "theirs.pem"), read_verifier(room / "ours.pub.pem")
    line = theirs.line(CONTENT).replace(theirs.key_id, ours.key_id)
    signature_of(copied).write_text(line)
    refused(copied, room / "ours.pub.pem", "is not what was signed")


def test_a_signature_of_the_bare_file_is_not_one_of_a_bundle(room, copied):
    signer = read_signer(room / "ours.pem")
    line = f"sentryfuse-signature 1 {signer.key_id} {signer.key.sign(CONTENT).hex()}\n"
    signature_of(copied).write_text(line)
    refused(copied, room / "ours.pub.pem", "is not what was signed")


def test_one_link_switches_bundle_and_signature(room, tmp_path):
    link = tmp_path / "current.bundle"
    link.symlink_to(room / "m.bundle")
    assert load_bundle(link, verify=room / "ours.pub.pem").signed_by


def test_what_was_checked_is_what_is_read(room, copied, monkeypatch):
    # a file that is replaced in place after its signature was checked must not be read again
    from sentryfuse.bundle.signature import Verifier

    check = Verifier.check

    def check_and_replace(self, path, content):
        check(self, path, content)
        copied.write_bytes(b"\0" * len(CONTENT))

    monkeypatch.setattr(Verifier, "check", check_and_replace)
    assert load_bundle(copied, verify=room / "ours.pub.pem").signed_by


def test_the_private_key_is_its_owners_alone_and_none_is_replaced(tmp_path):
    before = os.umask(0)
    try:
        private, public, key_id = write_keys(tmp_path / "new" / "site")
    finally:
        os.umask(before)
    assert (private.name, public.name) == ("site.pem", "site.pub.pem")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert read_signer(private).key_id == read_verifier(public).key_id == key_id
    for path in (private, public):
        kept = path.read_bytes()
        with pytest.raises(ConfigError, match=f"{path.name} exists, and a key is never replaced"):
            write_keys(tmp_path / "new" / "site")
        assert path.read_bytes() == kept
        path.unlink()
    with pytest.raises(InputError, match="cannot write"):
        write_keys(Path("/dev/null/x"))


def test_what_is_no_key_is_refused_in_a_sentence(room, tmp_path):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    locked, other, text = tmp_path / "locked.pem", tmp_path / "other.pem", tmp_path / "text.pem"
    pem = (form.Encoding.PEM, form.PrivateFormat.PKCS8)
    locked.write_bytes(Ed25519PrivateKey.generate().private_bytes(*pem, form.BestAvailableEncryption(b"x")))
    other.write_bytes(generate_private_key(SECP256R1()).private_bytes(*pem, form.NoEncryption()))
    text.write_bytes(b"\xff\x1b[2J" * 30_000)
    for path in (locked, other, text):
        with pytest.raises(ConfigError, match="is not a private Ed25519 key in PEM without a password"):
            read_signer(path)
    with pytest.raises(ConfigError, match="is not a public Ed25519 key"):
        read_verifier(text)
    with pytest.raises(ConfigError, match=r"ours\.pem is a private key and a public one is needed"):
        read_verifier(room / "ours.pem")
    with pytest.raises(ConfigError, match=r"ours.pub.pem is a public key and a private one is needed"):
        read_signer(room / "ours.pub.pem")
    for path in (tmp_path / "none.pem", tmp_path, Path("a\0b")):
        with pytest.raises(ConfigError, match="key"):
            read_verifier(path)


class Nothing(Source):
    """A source without samples."""

    start_s: float | None = 0.0

    @property
    def ended(self) -> bool:
        return True

    def now_s(self) -> float:
        return 0.0

    def read(self, timeout_s: float) -> list[Packet]:
        return []

    def counters(self) -> dict[str, dict[str, int]]:
        return {}

    def index_at(self, end_s: float) -> int | None:
        return None

    def close(self) -> None:
        pass


def test_a_runtime_started_with_a_key_takes_bundles_of_that_key_only(room):
    bundle, ours, theirs = room / "m.bundle", room / "ours.pub.pem", room / "theirs.pub.pem"
    signed, plain = load_bundle(bundle, verify=ours), load_bundle(bundle)
    other = dataclasses.replace(plain, signed_by=read_verifier(theirs).key_id)
    with Runtime(signed, Nothing()) as runtime:
        for refused_one, words in ((plain, "was not verified"), (other, "was verified with another")):
            with pytest.raises(BundleError, match=f"the new one {words}.*verify=KEY"):
                runtime.swap(refused_one)
        runtime.swap(load_bundle(bundle, verify=ours))
    with Runtime(plain, Nothing()) as runtime:
        runtime.swap(signed)


def test_a_device_without_the_library_reads_signed_bundles_and_says_what_verifying_needs(room):
    code = (
        "import sys\nsys.modules['cryptography'] = None\n"
        "from sentryfuse.bundle import load_bundle\nfrom sentryfuse.cli import main\n"
        f"load_bundle({str(room / 'm.bundle')!r})\n"
        f"sys.exit(main(['keys', '--out', {str(room / 'third')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr == "error: this needs cryptography, which is not here; pip install 'sentryfuse[sign]'\n"
    )
