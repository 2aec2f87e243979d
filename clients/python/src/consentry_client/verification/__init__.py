"""Checks receipts without asking anybody: a file, the log's public key, and nothing of the servers' code.

from consentry_client.verification import parse_verifier_key, verify_receipt

statement = verify_receipt(receipt_bytes, parse_verifier_key(log_key_text))

The formats are C2SP's signed-note, tlog-checkpoint, tlog-cosignature and tlog-proof; docs/protocol.md has the rest.
Needs the extra `verify` (the package `cryptography`, for Ed25519).
"""

from consentry_client.verification.errors import InvalidReceipt
from consentry_client.verification.notes import VerifierKey, parse_verifier_key
from consentry_client.verification.receipts import ReceiptStatement, verify_receipt

__all__ = ["InvalidReceipt", "ReceiptStatement", "VerifierKey", "parse_verifier_key", "verify_receipt"]
