"""Where webhooks may go (against SSRF)."""
