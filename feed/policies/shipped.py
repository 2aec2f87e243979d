"""The policy that comes with the program."""

from importlib.resources import files

DEFAULT_POLICY_NAME = "default.yaml"


def read_default_policy() -> str:
    """The text of the shipped policy file, for `consent.policy.load_policy_file` and to start one's own from."""
    return files("feed.policies").joinpath(DEFAULT_POLICY_NAME).read_text(encoding="utf-8")
