"""A receiver of webhooks for the demo: `python -m gateway.demo.receiver .demo`. It verifies each, and says so.

It uses what any receiver would: the public `gateway.webhooks.verify`, the secret, and a certificate.
"""

import argparse
import asyncio
import ssl
import sys
from pathlib import Path

from aiohttp import web

from gateway.webhooks import verify

_MAX: int = 1_048_576


def make_receiver(secret: bytes) -> web.Application:
    """An application for POST /hook: 204 for a webhook signed with the secret, 401 for any other."""
    seen: set[str] = set()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if not verify(body, request.headers, secret, plain=False):
            print("refused: its signature does not fit", flush=True)
            return web.Response(status=401)
        message = request.headers["webhook-id"]
        print(f"{'once more' if message in seen else 'verified'}: {body.decode()}", flush=True)
        seen.add(message)
        return web.Response(status=204)

    application = web.Application(client_max_size=_MAX)
    application.router.add_post("/hook", take)
    return application


async def serve(directory: Path, port: int) -> None:
    """Receives until it is cancelled; uses the certificate and the secret of the demo in `directory`.

    Raises:
        OSError: the port is taken, or a file is missing.
    """
    secret = (directory / "webhook-secret.txt").read_bytes().strip()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    runner = web.AppRunner(make_receiver(secret), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        print(f"receiving at https://localhost:{runner.addresses[0][1]}/hook", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> int:
    """Runs the receiver until Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.receiver", description=__doc__)
    parser.add_argument("directory", type=Path, help="the demo's directory, such as .demo")
    parser.add_argument("--port", type=int, default=9444, help="0 takes a free one")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.directory, options.port))
    except OSError as error:
        hint = "; choose another port by --port" if "address" in str(error) else ""
        print(f"receiver: {error.filename or ''} {error.strerror or error}{hint}".replace("  ", " "), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
