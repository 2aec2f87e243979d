"""Stand-ins that behave: real signatures, real folds, no network."""
