"""Proves that a form was made by this process for this server's own page.

Another site's page can neither read the value (no CORS) nor guess it; besides, the guard in front
of all routes refuses what says that it comes from there (`airside.registry.rules.web_pages`).
"""

import hmac
import secrets


class FormKey:
    """The value that each form carries. Lives as long as the process."""

    FIELD = "form"

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)

    def accepts(self, text: object) -> bool:
        return isinstance(text, str) and hmac.compare_digest(
            text.encode(errors="replace"), self.token.encode()
        )
