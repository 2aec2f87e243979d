"""Who sends the spans, and what the environment may say about it."""

import pytest

from hosting.telemetry.resource import build_resource


def test_resource_names_service_instance_and_version() -> None:
    named = build_resource("pod-1", "0.1.0", {}).attributes
    assert named["service.name"] == "consentry-sidecar"
    assert named["service.instance.id"] == "pod-1"
    assert named["service.version"] == "0.1.0"
    assert named["telemetry.sdk.language"] == "python"


@pytest.mark.parametrize(
    ("environ", "name", "expected"),
    [
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=web-1, deployment.environment.name = prod"},
            "k8s.pod.name",
            "web-1",
        ),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=data%2Cprivacy"}, "team", "data,privacy"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, "service.name", "theirs"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs", "OTEL_SERVICE_NAME": "last"}, "service.name", "last"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "rubbish,a=b=c"}, "a", "b=c"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.version="}, "service.version", ""),
    ],
)
def test_resource_follows_the_standard_variables(environ: dict[str, str], name: str, expected: str) -> None:
    assert build_resource("pod-1", "0.1.0", environ).attributes[name] == expected
