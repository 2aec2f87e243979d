"""Servers for the tests of services that use this client: real gRPC on a Unix socket, answers as you program them."""

from consentry_client.testing.fake_intake import FakeIntake, RecordedRequest
from consentry_client.testing.fake_sidecar import FakeCall, FakeSidecar

__all__ = ["FakeCall", "FakeIntake", "FakeSidecar", "RecordedRequest"]
