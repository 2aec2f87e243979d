"""The feed's keys: where they lie, and the signatures that make a tree head the log's."""
