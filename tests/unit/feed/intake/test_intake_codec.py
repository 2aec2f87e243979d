from collections.abc import Sequence

import pytest
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2

from consent.vocabulary.directive import Assurance, GrantedBy, Kind, Proof
from feed.errors import InvalidRequest, PurposeUnknown
from feed.grpc_api import intake_client_codec, intake_codec
from feed.grpc_api.intake_client_codec import Receipt
from feed.grpc_api.intake_codec import MAX_MESSAGE_BYTES, MAX_STREAM_MESSAGE_BYTES, MAX_STREAM_MESSAGE_RECORDS
from feed.intake.imports.run import Outcome
from feed.intake.requests import UNSTATED, RecordDirective, RecordFact, RecordRestriction, Subject
from feed.ports import Accepted
from tests.unit.feed.intake.desk import ANNA, grant, link, opt_out, unlink

DIRECTIVES = [
    opt_out(),
    opt_out(subject=Subject(token=b"t" * 16), occurred_at_ms=1, without_zone=True),
    grant(subtree=True, explicit=True, expires_at_ms=0, recipient="partner.example", granted_by=GrantedBy.GUARDIAN),
    opt_out(kind=0, proof=UNSTATED, assurance=UNSTATED),
    opt_out(kind=77, proof=99, assurance=99),
]


@pytest.mark.parametrize("request_", DIRECTIVES)
def test_codec_directive_goes_there_and_back(request_: RecordDirective) -> None:
    assert intake_codec.parse_directive_request(intake_client_codec.format_directive_request(request_)) == request_


def test_codec_records_of_a_stream_go_there_and_back_in_their_order() -> None:
    assert intake_codec.parse_streamed_requests(intake_client_codec.format_streamed_requests(DIRECTIVES)) == DIRECTIVES


def test_codec_other_requests_go_there_and_back() -> None:
    fact = RecordFact(
        idempotency_key="k", subject=ANNA, age_band=2, jurisdictions=("DE", "US"), proof=0, evidence_digest=bytes(32)
    )
    restriction = RecordRestriction(
        idempotency_key="k", subject=ANNA, restricted=True, proof=0, occurred_at_ms=3, evidence_digest=b"e" * 32
    )
    assert intake_codec.parse_link_request(intake_client_codec.format_link_request(link(proof=2))) == link(proof=2)
    assert intake_codec.parse_unlink_request(intake_client_codec.format_unlink_request(unlink())) == unlink()
    assert intake_codec.parse_fact_request(intake_client_codec.format_fact_request(fact)) == fact
    written = intake_client_codec.format_restriction_request(restriction)
    assert intake_codec.parse_restriction_request(written) == restriction


def test_codec_empty_messages_state_nothing() -> None:
    request = intake_codec.parse_directive_request(b"")
    assert (request.kind, request.proof, request.assurance, request.granted_by) == (0, UNSTATED, UNSTATED, 0)
    assert (request.subject, request.expires_at_ms) == (Subject(), None)
    assert intake_codec.parse_streamed_requests(b"\x0a\x00") == [request]


def test_codec_codes_of_the_wire_are_those_of_the_domain() -> None:
    assert {kind.name: kind.value for kind in Kind} == _without_zero("DIRECTIVE_KIND_", event_pb2.DirectiveKind.items())
    assert {each.name: each.value for each in GrantedBy} == _without_zero("GRANTED_BY_", event_pb2.GrantedBy.items())
    assert {each.name: each + 1 for each in Proof} == _without_zero("PROOF_", event_pb2.Proof.items())
    assert {each.name: each + 1 for each in Assurance} == _without_zero("ASSURANCE_", event_pb2.Assurance.items())


def _without_zero(prefix: str, items: Sequence[tuple[str, int]]) -> dict[str, int]:
    return {name.removeprefix(prefix): code for name, code in items if code}


@pytest.mark.parametrize("place", ["request", "directive", "identifier"])
def test_codec_unknown_fields_of_a_grant_are_noticed_wherever_they_are(place: str) -> None:
    message = intake_pb2.RecordDirectiveRequest.FromString(intake_client_codec.format_directive_request(grant()))
    part = {"request": message, "directive": message.directive, "identifier": message.directive.identifier}[place]
    part.MergeFromString(b"\x98\x06\x01")
    assert intake_codec.parse_directive_request(message.SerializeToString()).has_unknown_fields


def test_codec_grant_in_a_message_with_unknown_fields_is_not_taken_for_understood() -> None:
    message_bytes = intake_client_codec.format_streamed_requests([grant(), opt_out()])
    for newer in (b"\x98\x06\x01" + message_bytes, message_bytes + b"\x12\x01x", message_bytes + b"\x08\x01"):
        assert [_as_request(each).has_unknown_fields for each in intake_codec.parse_streamed_requests(newer)] == [
            True,
            False,
        ]


def _as_request(record: intake_codec.StreamedRecord) -> RecordDirective:
    assert isinstance(record, RecordDirective)
    return record


@pytest.mark.parametrize("field", ["left", "right"])
def test_codec_unknown_fields_of_a_link_are_noticed(field: str) -> None:
    message = intake_pb2.RecordLinkRequest.FromString(intake_client_codec.format_link_request(link()))
    getattr(message, field).MergeFromString(b"\x98\x06\x01")
    assert intake_codec.parse_link_request(message.SerializeToString()).has_unknown_fields


def test_codec_text_that_is_not_utf_8_is_refused_by_the_name_of_its_field() -> None:
    message_bytes = intake_client_codec.format_directive_request(opt_out()).replace(b"anna@", b"ann\xff@")
    with pytest.raises(InvalidRequest, match=r"^directive\.identifier\.value is not UTF-8$"):
        intake_codec.parse_directive_request(message_bytes)


@pytest.mark.parametrize(
    ("message_bytes", "text"),
    [
        (b"\x0a\xff", "^RecordDirectiveRequest cannot be decoded$"),
        (b"\x12\x02\x0a\xff", "^directive cannot be decoded$"),
        (b"\x12\x04\x0a\x02\x12\xff", "^directive.identifier cannot be decoded$"),
        (b"\x0a\x01\xff", "^idempotency_key is not UTF-8$"),
        (b"x" * (MAX_MESSAGE_BYTES + 1), "^RecordDirectiveRequest has more than 65536 bytes$"),
    ],
)
def test_codec_undecodable_message_is_refused_by_its_part(message_bytes: bytes, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        intake_codec.parse_directive_request(message_bytes)


@pytest.mark.parametrize(
    ("record_bytes", "text"),
    [
        (b"\xff", "RecordDirectiveRequest cannot be decoded"),
        (
            intake_client_codec.format_directive_request(opt_out()).replace(b"anna@", b"ann\xff@"),
            "directive.identifier.value is not UTF-8",
        ),
        (
            intake_client_codec.format_directive_request(opt_out(recipient="x" * MAX_MESSAGE_BYTES)),
            "RecordDirectiveRequest has more than 65536 bytes",
        ),
    ],
)
def test_codec_record_of_a_stream_that_cannot_be_read_leaves_the_others(record_bytes: bytes, text: str) -> None:
    # A record of its own is the field that it is in a message with others.
    record = intake_pb2.RecordDirectivesRequest(records=[intake_pb2.RecordDirectiveRequest()]).SerializeToString()
    before = intake_client_codec.format_streamed_requests([opt_out("1")])
    after = intake_client_codec.format_streamed_requests([opt_out("3")])
    broken = record[:1] + _varint(len(record_bytes)) + record_bytes
    first, second, third = intake_codec.parse_streamed_requests(before + broken + after)
    assert (first, third) == (opt_out("1"), opt_out("3"))
    assert isinstance(second, InvalidRequest)
    assert str(second) == text


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    return bytes([number & 127 | 128]) + _varint(number >> 7)


@pytest.mark.parametrize(
    ("message_bytes", "text"),
    [
        (b"", "^records: there is none$"),
        (b"\x98\x06\x01", "^records: there is none$"),
        (b"\x0a\x00" * (MAX_STREAM_MESSAGE_RECORDS + 1), "^records: there are more than 500$"),
        (b"\x0a\xff", "^RecordDirectivesRequest cannot be decoded$"),
        (bytes(MAX_STREAM_MESSAGE_BYTES + 1), "^RecordDirectivesRequest has more than 1048576 bytes$"),
    ],
)
def test_codec_message_of_a_stream_out_of_bounds_is_refused_as_a_whole(message_bytes: bytes, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        intake_codec.parse_streamed_requests(message_bytes)


def test_codec_message_of_a_stream_may_have_as_many_records_as_the_contract_says() -> None:
    assert len(intake_codec.parse_streamed_requests(b"\x0a\x00" * MAX_STREAM_MESSAGE_RECORDS)) == 500


def test_codec_answers_go_there_and_back() -> None:
    accepted = Accepted(b"r" * 16, 7, 1_700_000_000_000, is_replay=True)
    for format_answer in (
        intake_codec.format_directive_answer,
        intake_codec.format_link_answer,
        intake_codec.format_unlink_answer,
        intake_codec.format_fact_answer,
        intake_codec.format_restriction_answer,
    ):
        receipt = intake_client_codec.parse_receipt(format_answer(accepted, "consent.example/log"))
        assert receipt == Receipt(b"r" * 16, "consent.example/log", 7, 1_700_000_000_000, is_replay=True)


def test_codec_streamed_answers_come_to_outcomes_in_their_order() -> None:
    refusal = PurposeUnknown("directive.purpose is not in the policy")
    accepted = Accepted(b"r" * 16, 7, 1_700_000_000_000, is_replay=True)
    response_bytes = intake_codec.format_streamed_answers(
        [accepted, refusal, Accepted(b"s" * 16, 9, 2)], "consent.example/log"
    )
    expected = [Outcome(is_replay=True), Outcome("PURPOSE_UNKNOWN"), Outcome()]
    assert intake_client_codec.parse_outcomes(response_bytes) == expected
    first, second, _ = intake_pb2.RecordDirectivesResponse.FromString(response_bytes).outcomes
    receipt = intake_client_codec.parse_receipt(first.record.SerializeToString())
    assert receipt == Receipt(b"r" * 16, "consent.example/log", 7, 1_700_000_000_000, is_replay=True)
    assert (second.HasField("record"), second.error_message) == (False, "directive.purpose is not in the policy")
