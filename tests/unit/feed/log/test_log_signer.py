from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.merkle import EMPTY_ROOT_HASH
from tests.fakes.feed_log import ORIGIN, SIGNER, TRUST, seed


def test_log_signer_checkpoint_is_believed_under_the_trust_file_with_its_time_in_whole_seconds() -> None:
    note = SIGNER.sign(ORIGIN, 3, seed("root"), 1_767_225_600_999)

    verified = verify_checkpoint(note, TRUST, 1_767_225_601)

    assert (verified.checkpoint.origin, verified.checkpoint.size) == (ORIGIN, 3)
    assert verified.checkpoint.root_hash == seed("root")
    assert verified.time_ms == 1_767_225_600_000
    assert verified.cosigner_names == (f"{ORIGIN}/cosigner",)


def test_log_signer_same_tree_at_another_time_differs_in_the_cosignature_alone() -> None:
    first, second = (SIGNER.sign(ORIGIN, 0, EMPTY_ROOT_HASH, ms).splitlines() for ms in (1_000, 2_000))

    assert first[:-1] == second[:-1]
    assert first[-1] != second[-1]
