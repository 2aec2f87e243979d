"""Verifies event log and journals of an audit folder, from files alone and public keys."""

from auditor.verify.reasons import Reason
from auditor.verify.run import SILENT_SECONDS, VerifyReport, verify_folder

__all__ = ["SILENT_SECONDS", "Reason", "VerifyReport", "verify_folder"]
