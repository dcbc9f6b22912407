from pathlib import Path

import pytest
from pytest_aiohttp import AiohttpRawServer

from tests.webhooks.receivers import Receiver, make_certificates, receiving, server_context


@pytest.fixture(scope="session")
def hook_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, server.pem and server.key for hooks.example, localhost and 127.0.0.1."""
    return make_certificates(tmp_path_factory.mktemp("hooks"))


@pytest.fixture
async def receiver(hook_certificates: Path, aiohttp_raw_server: AiohttpRawServer) -> Receiver:
    return await receiving(aiohttp_raw_server, server_context(hook_certificates))
