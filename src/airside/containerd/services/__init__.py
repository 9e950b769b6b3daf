"""containerd's gRPC services as plain calls, one class per service.

Thin: each method is one call. Which calls, in which order and why is decided by the callers.
Absence is None or False where it is an answer; other errors are those of `containerd.channel`.
Sources: containerd's api/services/*.proto; statuses as tried on 1.6.20, 1.7.24 and 2.1.9.
"""
