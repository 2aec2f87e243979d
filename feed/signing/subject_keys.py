"""The subject keys of a log's key epochs, and the way of a token through them."""

from collections.abc import Callable, Sequence

from consent.event import Event, KeyEpochEvent
from consent.key_epoch import current_epoch, rekey_event
from consent.key_ring import commit_key
from consent.tenant_state import TenantState
from consent.vocabulary.subject import Rekeyer


class SubjectKeys:
    """The keys at hand; the log says how many of them have begun.

    Args:
        keys: 32 bytes each, of the epochs 0, 1, …; more of them than the log has come to do no harm.
        prepare: Returns the key of an epoch that is about to begin.
    """

    def __init__(self, keys: Sequence[bytes], prepare: Callable[[int], bytes] | None = None) -> None:
        self._keys = list(keys)
        self._rekeyers = [Rekeyer(key) for key in keys[1:]]
        self._prepare = prepare

    @property
    def first_commitment(self) -> bytes:
        """What the first entry of a new log commits to, 32 bytes."""
        return commit_key(self._keys[0])

    def match(self, tenant: TenantState) -> bool:
        """Whether the log commits to these keys, as far as it has come."""
        count = len(tenant.key_commitments)
        return tuple(map(commit_key, self._keys[:count])) == tenant.key_commitments

    def begun(self, tenant: TenantState) -> tuple[bytes, ...]:
        """The keys of the epochs that have begun: what sidecars are given."""
        return tuple(self._keys[: len(tenant.key_commitments)])

    def prepare(self, epoch: int) -> Rekeyer:
        """Have the key of the next epoch at hand, from here on.

        Raises:
            HostingError: There is none, and none can be made.
        """
        if epoch == len(self._keys) and self._prepare is not None:
            key = self._prepare(epoch)
            self._keys.append(key)
            self._rekeyers.append(Rekeyer(key))
        return self._rekeyers[epoch - 1]

    def commitment(self, epoch: int) -> bytes:
        """What KEY_EPOCH commits to, 32 bytes."""
        return commit_key(self._keys[epoch])

    def find_rekeyer(self, event: KeyEpochEvent) -> Rekeyer | None:
        """Leads to an epoch, from 1 on, that was logged before; None where its key is not at hand or another one is."""
        if not 0 < event.epoch < len(self._keys) or commit_key(self._keys[event.epoch]) != event.key_commitment:
            return None
        return self._rekeyers[event.epoch - 1]

    def lead_event(self, event: Event, tenant: TenantState) -> Event:
        """The event with its tokens led to the epoch that the log is in; one that is there already comes back as it is."""
        for rekeyer in self._rekeyers[event.key_epoch : current_epoch(tenant)]:
            event = rekey_event(event, rekeyer)
        return event

    def lead_token(self, token: bytes, tenant: TenantState, epoch: int = 0) -> bytes:
        """The token of the epoch that the log is in, for one of an older epoch."""
        for rekeyer in self._rekeyers[epoch : current_epoch(tenant)]:
            token = rekeyer.rekey(token)
        return token
