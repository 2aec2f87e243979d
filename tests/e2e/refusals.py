"""Calls that must not succeed."""

from collections.abc import Callable

import grpc
import pytest


def refusal_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Make a call that must be refused; returns its status and text."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    assert isinstance(raised.value, grpc.Call)
    return raised.value.code(), raised.value.details() or ""
