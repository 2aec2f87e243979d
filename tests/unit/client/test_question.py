"""Deadlines and types of a question."""

import math
from typing import Any

import pytest
from consentry_client import ConsistencyToken
from consentry_client.question import Question

TOKEN = ConsistencyToken("log", 7)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.25),
        ({"timeout_seconds": 2.0}, 2.0),
        ({"wait_seconds": 1.0}, 0.25),
        ({"min_token": TOKEN, "wait_seconds": 1.0}, 1.25),
        ({"min_token": TOKEN, "wait_seconds": 1.0, "timeout_seconds": 2.0}, 3.0),
        ({"min_token": TOKEN, "wait_seconds": 99.0}, 10.25),
        ({"min_token": TOKEN, "wait_seconds": math.inf}, 10.25),
        ({"min_token": TOKEN, "wait_seconds": math.nan}, 0.25),
        ({"timeout_seconds": 0}, 0.0),
        ({"timeout_seconds": -1}, 0.0),
        ({"timeout_seconds": math.nan}, 0.0),
        ({"min_token": TOKEN, "wait_seconds": 5.0, "timeout_seconds": -1}, 0.0),
        ({"timeout_seconds": math.inf}, 86_400.0),
    ],
    ids=str,
)
def test_question_gives_every_call_a_sound_deadline(options: dict[str, Any], expected: float) -> None:
    assert Question.ask("p", **options).give_deadline(0.25) == expected


@pytest.mark.parametrize("wrong", [{"context": "EU"}, {"min_token": "log:7"}, {"patience": 3}], ids=str)
def test_question_with_other_types_raises_type_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Question.ask("p", **wrong)
