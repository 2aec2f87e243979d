"""Settings of a program: one frozen model, filled from a YAML file and environment variables, strictly.

A variable's name is the prefix, then the key with ``__`` for each level: ``CONSENTRY_SIDECAR_CACHE__DIRECTORY`` is
``cache.directory``. A variable replaces what the file says at its key, the deeper one last. Lists and objects are JSON;
an empty variable sets an optional field to nothing. Unknown keys, variables and files stop the start.
"""

from hosting.settings.loading import LoadedSettings, load_settings, load_settings_with_origins
from hosting.settings.model import SettingsModel
from hosting.settings.reference import document_settings
from hosting.settings.rendering import render_settings

__all__ = [
    "LoadedSettings",
    "SettingsModel",
    "document_settings",
    "load_settings",
    "load_settings_with_origins",
    "render_settings",
]
