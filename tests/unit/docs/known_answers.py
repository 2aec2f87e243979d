"""Values that docs/protocol.md prints for whoever writes the same thing in another language."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consent.event import DirectiveEvent, format_event
from consent.eventlog.checkpoint import Checkpoint, format_checkpoint_text
from consent.eventlog.merkle import commit, hash_leaf, leaf_data
from consent.key_ring import KeyRing, commit_key, format_key_ring, open_key_ring, seal_key_ring
from consent.state import fold_event
from consent.state_record import StateHasher, format_cluster, format_tenant
from consent.tenant_state import EMPTY_TENANT, TenantState
from consent.vocabulary.directive import Kind
from consent.vocabulary.subject import Pseudonymiser, Tokeniser, normalise
from feed.signing.key_store import audit_day_key

SUBJECT_KEYS = (bytes(range(0x20)), bytes(range(0x20, 0x40)))
DAY_KEY = bytes(range(0x40, 0x60))
AUDIT_MASTER = bytes(range(0x60, 0x80))
OPENING = bytes([0x01]) * 32
DAY = 20_468


def known_answers() -> dict[str, str]:
    """Each row of the page's table: what it is, and its value in hexadecimal or as text."""
    tokens = [Tokeniser(SUBJECT_KEYS[:count]).token("email", " Ada@Example.COM ") for count in (1, 2)]
    event = DirectiveEvent(
        origin="example.org/log",
        source="web",
        token=tokens[0],
        kind=Kind.OPT_OUT,
        occurred_at_ms=1_768_471_200_000,
        purpose="marketing",
        proof=1,
        assurance=1,
    )
    event_bytes = format_event(event)
    commitment = commit(OPENING, event_bytes)
    leaf = leaf_data(event.TYPE, commitment)
    cluster = fold_event(event, 2, lambda _: None)[tokens[0]]
    tenant = TenantState(key_commitments=(commit_key(SUBJECT_KEYS[0]),))
    state = StateHasher()
    state.add(tokens[0], format_cluster(cluster))
    return {
        "normal form": normalise("email", " Ada@Example.COM "),
        "token, epoch 0": tokens[0].hex(),
        "token, epoch 1": tokens[1].hex(),
        "audit pseudonym of the token of epoch 0": Pseudonymiser(DAY_KEY).pseudonym(tokens[0]).hex(),
        "audit key of the day": audit_day_key(AUDIT_MASTER, DAY).hex(),
        "commitment of the key of epoch 0": commit_key(SUBJECT_KEYS[0]).hex(),
        "key ring": format_key_ring(KeyRing(SUBJECT_KEYS[:1], ((DAY, DAY_KEY),))).hex(),
        "event": event_bytes.hex(),
        "commitment": commitment.hex(),
        "leaf data": leaf.hex(),
        "leaf hash": hash_leaf(leaf).hex(),
        "checkpoint text": repr(format_checkpoint_text(Checkpoint("example.org/log", 1, hash_leaf(leaf)))).strip("'"),
        "cluster record": format_cluster(cluster).hex(),
        "tenant record": format_tenant(tenant).hex(),
        "state root": state.finish(tenant).hex(),
        "state root of nothing": StateHasher().finish(EMPTY_TENANT).hex(),
    }


def sealed_ring_length(ring: KeyRing) -> int:
    """Bytes of a sealed ring, after it was opened again."""
    private_key = X25519PrivateKey.generate()
    public_key = private_key.public_key().public_bytes_raw()
    sealed = seal_key_ring(ring, public_key, tenant="t", sidecar_id="s")
    assert open_key_ring(sealed, private_key, tenant="t", sidecar_id="s") == ring
    return len(sealed)
