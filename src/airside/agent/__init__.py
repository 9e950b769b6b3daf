"""The running process: everything of the agent is put together here."""

FALLBACK_COMMAND = "fallback-server"
"""The first argument of a frozen `airside` that runs the fallback server instead of a command."""
