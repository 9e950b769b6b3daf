"""Archives that are uploaded over HTTP into a watched directory (ADR 0041)."""
