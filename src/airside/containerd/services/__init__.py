"""containerd's gRPC services as plain calls, one class per service.

Each method is one call; its callers decide which calls are made, in which order and why.
Absence is None or False where it is an answer; other errors are those of `containerd.channel`.
Sources: containerd's api/services/*.proto; statuses as tried on 1.6.20, 1.7.24 and 2.1.9.
"""
