"""What a server process needs around its job: settings, keys, sockets, TLS, error boundary, logs, time, signals.

The package stands between the programs and the pure language: ``sidecar | feed`` → ``hosting`` → ``consent``.
It knows nothing of consents, logs or caches. Why it exists: ``docs/adr/0002-hosting-package.md``.
"""
