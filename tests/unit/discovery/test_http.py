"""The HTTP API's errors that a deployed one does not come to by itself: over a quota, a lost nonce."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode
from skywire_common.http_auth import signed_payload
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.http import app
from skywire_transport_discovery.limits import Quotas
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.store.database import Database

ME = SecretKey.generate()
A_MINUTE = 3


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'discovery.db'}")
    await database.upgrade()
    registry = Registry(database, Feed(database), per_node=4)
    made = app.make_app(registry, Quotas(A_MINUTE, lambda: 0.0), lambda: "", CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://discovery") as found:
        yield found
    await registry.close()
    await database.close()


async def register(client: httpx.AsyncClient, nonce: int, count: int) -> httpx.Response:
    """Register transports to new nodes."""
    entries = []
    for _ in range(count):
        other = SecretKey.generate()
        entry = Entry.between(ME.public, other.public, "tcp", True)
        entries.append(SignedEntry.unsigned(entry).sign(ME).sign(other).to_json())
    body = b"[" + b",".join(entries) + b"]"
    signature = ME.sign(signed_payload(body, nonce)).hex()
    headers = {"SW-Public": str(ME.public), "SW-Nonce": str(nonce), "SW-Sig": signature}
    return await client.post("/transports/", content=body, headers=headers)


async def test_over_the_quota_is_429_and_leaves_the_nonce_alone(client: httpx.AsyncClient) -> None:
    assert (await register(client, 0, A_MINUTE)).status_code == 201
    refused = await register(client, 1, 1)
    assert refused.status_code == 429
    assert refused.json() == {"error": f"a key may register {A_MINUTE} entries a minute"}
    nonce = await client.get(f"/security/nonces/{ME.public}")
    assert nonce.json() == {"edge": str(ME.public), "next_nonce": 1}


async def test_a_client_that_lost_its_nonce_asks_for_it_and_goes_on(client: httpx.AsyncClient) -> None:
    """As the original's does: one 401 with these very words, the next nonce, once more."""
    assert (await register(client, 0, 1)).status_code == 201
    lost = await register(client, 0, 1)
    assert lost.status_code == 401
    assert lost.content == b'{"error":{"message":"SW-Nonce does not match","code":401}}'
    nonce = (await client.get(f"/security/nonces/{ME.public}")).json()["next_nonce"]
    assert (await register(client, nonce, 1)).status_code == 201


def test_every_code_has_the_status_that_is_documented() -> None:
    shown = set(app._ERRORS | app._MISSING | app._WRITES)
    assert set(app.STATUS_OF.values()) <= shown
    assert app.STATUS_OF[ErrorCode.CONFLICT] == 409
