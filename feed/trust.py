"""Settings and trust file held together before anything is opened: the feed must not log what its sidecars would refuse."""

from dataclasses import replace

from consent.eventlog.keys import KeyKind, VerifierKey
from consent.eventlog.trust import Trust
from feed.config import FeedSettings, Method
from feed.errors import TrustMismatch
from feed.intake.sources import EVERYTHING, Source
from feed.intake.trusted_sources import verify_source_rights
from hosting.trust_files import load_trust, read_signing_key

_ALL = frozenset({EVERYTHING})
_METHODS = frozenset(method.value for method in Method)

# The administrator holds nobody's proof and has no key: what relaxes comes from the person, through a source that saw them.
ADMINISTRATOR = Source("administrator", _ALL, _ALL, max_proof=0, max_assurance=1, methods=_METHODS)
_IMPORT = Source(
    "import",
    _ALL,
    _ALL,
    max_proof=0,
    max_assurance=1,
    methods=frozenset({Method.RECORD_DIRECTIVES.value}),
    is_import=True,
)


def load_feed_trust(settings: FeedSettings, log_key: VerifierKey) -> Trust:
    """Read the trust file that the sidecars have too.

    Raises:
        UnusableStartFile: It cannot be read or verified.
        TrustMismatch: It is about another log, or does not believe this one.
    """
    trust = load_trust(settings.trust.file, settings.trust.root_key_file)
    if trust.origin != settings.origin:
        raise TrustMismatch("origin: is not the one in the trust file")
    if trust.tenant != settings.tenant:
        raise TrustMismatch("tenant: is not the one in the trust file")
    if log_key not in (key.verifier_key for key in trust.log_keys):
        raise TrustMismatch("event_log.keys_directory: the log's key is not among the trust file's log_keys")
    return trust


def load_sources(settings: FeedSettings, trust: Trust) -> list[Source]:
    """The configured sources with their keys, in the order of the settings.

    Raises:
        KeyFileError: A key file cannot be used.
        TrustMismatch: A source is set up for more than its key may vouch for.
    """
    sources = []
    for source_settings in settings.sources:
        source, key_file = source_settings.to_source(), source_settings.signing_key_file
        if key_file is not None:
            source = replace(source, signing_key=read_signing_key(key_file, KeyKind.SOURCE))
        verify_source_rights(source, trust)
        sources.append(source)
    return sources


def load_import_source(settings: FeedSettings, trust: Trust) -> Source:
    """The source of imports; raises as `load_sources`."""
    if settings.import_signing_key_file is None:
        return _IMPORT
    source = replace(_IMPORT, signing_key=read_signing_key(settings.import_signing_key_file, KeyKind.SOURCE))
    verify_source_rights(source, trust)
    return source
