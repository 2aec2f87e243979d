"""The policies and keys that a log says, folded again in the order of its entries."""

from consent.errors import ConsentError
from consent.policy import PolicyError
from consent.tenant_state import EMPTY_TENANT, fold_tenant_event
from feed.verification.findings import Finding, Reason
from feed.verification.segment import SegmentReport


class TenantCheck:
    """Takes segments in order.

    Attributes:
        tenant: What the entries so far say.
        findings: Events that do not follow the one before them, and tokens of a key epoch that no entry has begun.
    """

    def __init__(self) -> None:
        self.tenant = EMPTY_TENANT
        self.findings: list[Finding] = []

    def take(self, report: SegmentReport) -> None:
        """Fold what a segment says about the tenant."""
        unbegun = {epoch: seq for epoch, seq in report.epoch_uses.items() if epoch >= len(self.tenant.key_commitments)}
        for seq, event in report.governing:
            before = len(self.tenant.key_commitments)
            try:
                self.tenant = fold_tenant_event(self.tenant, event, seq)
            except (ConsentError, PolicyError) as error:
                self.findings.append(Finding(Reason.TENANT_REFUSED, f"entry {seq}: {error.reason}: {error}", seq))
            for epoch in range(before, len(self.tenant.key_commitments)):
                if unbegun.get(epoch, seq) > seq:
                    del unbegun[epoch]
        for epoch, seq in unbegun.items():
            text = f"entry {seq}: tokens of key epoch {epoch}, which no entry before it has begun"
            self.findings.append(Finding(Reason.EVENT_REFUSED, text, seq))
