"""The one place that decides what comes after what: requests in, a gapless, signed and durable log out."""

from feed.sequencer.key_epochs import KeyEpochs
from feed.sequencer.lone import LoneChange, LoneEntry
from feed.sequencer.sequencer import FEED_SOURCE, Sequencer, SequencerLimits

__all__ = ["FEED_SOURCE", "KeyEpochs", "LoneChange", "LoneEntry", "Sequencer", "SequencerLimits"]
