"""The decision record on disk: written before an answer leaves, chained and sealed, and shipped as spans afterwards."""
