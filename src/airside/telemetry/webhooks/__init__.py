"""Sends events to webhooks: signed, in order, retried."""
