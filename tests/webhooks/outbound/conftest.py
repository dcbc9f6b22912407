"""The dispatcher of these tests."""

from pathlib import Path

import pytest

from gateway.ledger.ledger import Ledger
from tests.webhooks.relays import Set


@pytest.fixture
async def parts(ledger: Ledger, hook_certificates: Path) -> Set:
    return Set(ledger, hook_certificates)
