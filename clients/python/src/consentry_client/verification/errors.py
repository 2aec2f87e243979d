"""What can be wrong with a receipt."""

from consentry_client.errors import ConsentryError


class InvalidReceipt(ConsentryError):
    """A receipt proves nothing.

    Attributes:
        reason: MALFORMED_RECEIPT, MALFORMED_NOTE, MALFORMED_CHECKPOINT, ORIGIN_MISMATCH, INSUFFICIENT_SIGNATURES,
            INVALID_SIGNATURE, PROOF_OUT_OF_RANGE or INVALID_PROOF.
    """
