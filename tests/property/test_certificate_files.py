"""Certificate files are written by other programs: whatever is in them, only our own error comes out."""

import base64
import textwrap

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hosting.certificates import TlsMaterial, read_material
from hosting.errors import TlsError
from tests.fakes.certificates import MountedSecret, make_authority

NAMES = ("tls.crt", "tls.key", "ca.crt")


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> MountedSecret:
    directory = tmp_path_factory.mktemp("certificates")
    authority = make_authority(directory / "authority")
    secret = MountedSecret(directory / "secret")
    secret.put(authority.issue("sidecar", "spiffe://shop.example/sidecar/sidecar-1"), authority)
    return secret


def read(secret: MountedSecret) -> TlsMaterial | None:
    try:
        return read_material(*secret.settings.values())
    except TlsError as error:
        if not any(name in str(error) for name in NAMES):
            raise
        return None


def damage(pem: bytes, place: int, value: int) -> bytes:
    """The same PEM with one byte of what is in it changed."""
    first, *lines, last = pem.decode().splitlines()
    der = bytearray(base64.b64decode("".join(lines)))
    der[place % len(der)] ^= value
    return "\n".join([first, *textwrap.wrap(base64.b64encode(der).decode(), 64), last, ""]).encode()


# A serial number that is not positive is warned of, and no concern of ours.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
# The version of the certificate, for which the library has an error of its own.
@example(part=0, place=12, value=1)
@given(part=st.sampled_from(range(3)), place=st.integers(0, 2000), value=st.integers(1, 255))
def test_read_material_one_byte_changed_is_refused_by_name_or_read_as_it_is(
    secret: MountedSecret, part: int, place: int, value: int
) -> None:
    versions = [(secret.directory / "..version_1" / name).read_bytes() for name in NAMES]
    versions[part] = damage(versions[part], place, value)
    secret.put_contents(*versions)
    material = read(secret)
    assert material is None or (material.chain_pem, material.key_pem, material.ca_pem) == tuple(versions)


@given(part=st.sampled_from(range(3)), content=st.binary(max_size=300))
def test_read_material_of_anything_is_refused_by_name(secret: MountedSecret, part: int, content: bytes) -> None:
    versions = [(secret.directory / "..version_1" / name).read_bytes() for name in NAMES]
    versions[part] = content
    secret.put_contents(*versions)
    assert read(secret) is None


@given(part=st.sampled_from(range(3)), share=st.floats(0, 0.97))
def test_read_material_of_a_file_cut_short_is_refused(secret: MountedSecret, part: int, share: float) -> None:
    versions = [(secret.directory / "..version_1" / name).read_bytes() for name in NAMES]
    versions[part] = versions[part][: int(len(versions[part]) * share)]
    secret.put_contents(*versions)
    assert read(secret) is None
