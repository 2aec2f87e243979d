"""A feed and a sidecar on Unix sockets in one folder: real keys, real trust file, settings as the programs load them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consent.eventlog.keys import KeyKind, format_signing_key, format_verifier_key, generate_signing_key, sign_note
from consent.eventlog.trust import Trust, TrustedKey, seal_trust
from consent.policy import Policy, format_policy
from feed.config import FeedSettings
from feed.setup import CACHE_KEY_USE, create_enrolment_token
from feed.signing.key_store import create_keys, load_keys
from hosting.key_files import create_key_file, write_file_atomically
from sidecar.config import SidecarSettings
from tests.fakes.signers import Signers

TENANT = "tenant-1"
ORIGIN = "conformance.example/log"


@dataclass(frozen=True, slots=True)
class TestInstallation:
    """Where everything is.

    Attributes:
        directory: The folder; short, since socket paths are.
        signers: Sources and approvers of the trust file.
    """

    __test__ = False

    directory: Path
    signers: Signers

    def socket(self, name: str) -> str:
        """Address of a socket of this installation."""
        return f"unix://{self.directory / name}.sock"

    @property
    def trust_files(self) -> dict[str, Path]:
        """Settings of the trust file."""
        return {"file": self.directory / "trust.note", "root_key_file": self.directory / "root.pub"}

    def feed_settings(self, **changes: Any) -> FeedSettings:
        """Settings of the feed: one source that may say everything."""
        base: dict[str, Any] = {
            "tenant": TENANT,
            "origin": ORIGIN,
            "trust": self.trust_files,
            "event_log": {
                "directory": self.directory / "log",
                "keys_directory": self.directory / "keys",
                "receipts_seconds": 0.1,
            },
            "sync": {"address": self.socket("sync")},
            "sources": [
                {
                    "name": "web",
                    "address": self.socket("web"),
                    "max_proof": 3,
                    "max_assurance": 2,
                    "signing_key_file": self.directory / "source-web.key",
                }
            ],
            "admin_address": self.socket("feed-admin"),
            "import_address": self.socket("feed-import"),
            "import_signing_key_file": self.directory / "source-import.key",
            "drain_seconds": 0.2,
        }
        return FeedSettings.model_validate({**base, **changes})

    def sidecar_settings(self, sidecar_id: str = "sidecar-1", **changes: Any) -> SidecarSettings:
        """Settings of a sidecar: one caller that may ask everything and is told everything, one that may ask nothing."""
        home = self.directory / sidecar_id
        home.mkdir(mode=0o700, exist_ok=True)
        keys = load_keys(self.directory / "keys", ORIGIN)
        create_enrolment_token(home / "enrolment.token", keys, ORIGIN, sidecar_id)
        callers = {
            "app": {
                "name": "app",
                "detail": "full",
                "methods": ["Check", "CheckBatch", "CheckStream", "GetStatus", "Explain"],
            }
        }
        callers["stranger"] = {"name": "stranger", "detail": "full", "purposes": ["nothing-of-ours"]}
        base: dict[str, Any] = {
            "sidecar_id": sidecar_id,
            "trust": self.trust_files,
            "feed": {"address": self.socket("sync"), "backoff_first_ms": 20, "backoff_most_ms": 200},
            "enrolment_token_file": home / "enrolment.token",
            "cache": {"directory": home / "cache", "key_files": [self.directory / "cache.key"]},
            "journal": {"directory": home / "journal", "ship": False},
            "listeners": [
                {"address": self.socket(f"{sidecar_id}-{name}"), "callers": [caller]}
                for name, caller in callers.items()
            ],
            "admin_address": self.socket(f"{sidecar_id}-admin"),
            "drain_seconds": 0.2,
        }
        return SidecarSettings.model_validate({**base, **changes})

    def sign_policy(self, policy: Policy) -> Path:
        """A bootstrap policy file, signed by the approvers."""
        path = self.directory / "bootstrap.note"
        path.write_bytes(sign_note(f"{format_policy(policy).decode()}\n", *self.signers.approvers))
        return path


def install(directory: Path) -> TestInstallation:
    """Create keys and trust file in a new folder."""
    directory.mkdir(parents=True, exist_ok=True)
    create_keys(directory / "keys")
    keys = load_keys(directory / "keys", ORIGIN)
    root_key = generate_signing_key(f"{ORIGIN}/root", KeyKind.LOG, os.urandom(32))
    signers = Signers(ORIGIN)
    for name in ("web", "import"):
        write_file_atomically(
            directory / f"source-{name}.key", f"{format_signing_key(signers.sources[name])}\n".encode()
        )
    trust = Trust(
        tenant=TENANT,
        origin=ORIGIN,
        log_keys=(TrustedKey(keys.log_key.verifier_key),),
        cosigner_keys=(TrustedKey(keys.cosigner_key.verifier_key),),
        source_keys=signers.source_keys,
        approver_keys=signers.approver_keys,
    )
    (directory / "trust.note").write_bytes(seal_trust(trust, root_key))
    (directory / "root.pub").write_text(f"{format_verifier_key(root_key.verifier_key)}\n", encoding="utf-8")
    create_key_file(directory / "cache.key", os.urandom(32), use=CACHE_KEY_USE)
    return TestInstallation(directory, signers)
