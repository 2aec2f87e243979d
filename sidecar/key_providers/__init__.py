"""Key-encryption keys that a key service keeps sealed: AWS KMS, Vault transit. Each is an extra, loaded only if the settings name it."""
