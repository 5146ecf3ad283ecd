"""Routes of the HTTP API. Bodies are exact to the byte: JSON without spaces, keys in the original's order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import orjson
from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from skywire_common.entries import SignedEntry, entry_to_dict, signed_entry_from_dict
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.keys import PublicKey
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from skywire_transport_discovery.checking import check_entries
from skywire_transport_discovery.http import auth, models, page
from skywire_transport_discovery.http.auth import NonceMismatch, Signed
from skywire_transport_discovery.limits import Quotas
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.standing import Transport
from skywire_transport_discovery.store import calls, transports
from skywire_transport_discovery.store.transports import Said

P = ParamSpec("P")
R = TypeVar("R")

MAX_BODY = 1 << 20
BODY_S = 15.0

STATUS_OF = {
    ErrorCode.INVALID_ARGUMENT: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.UNKNOWN_NODE: 404,
    ErrorCode.UNKNOWN_TRANSPORT: 404,
    ErrorCode.ALREADY_EXISTS: 409,
    ErrorCode.CONFLICT: 409,
    ErrorCode.DUPLICATE_IDENTITY: 409,
    ErrorCode.LIMIT_REACHED: 429,
    ErrorCode.DEADLINE: 503,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.STOPPING: 503,
}
# Used with fullmatch: Python's `$` alone lets a line's end through.
_HEX_KEY = re.compile(models.KEY_PATTERN, re.ASCII)
_UUID = re.compile(models.ID_PATTERN, re.ASCII)

KeyPath = Annotated[str, Path(pattern=models.KEY_PATTERN)]
IdPath = Annotated[str, Path(pattern=models.ID_PATTERN)]

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": models.ErrorText, "description": "Malformed"},
    401: {"model": models.NonceError | models.ErrorText, "description": "Not signed, signed wrongly, or another nonce"},
    503: {"model": models.ErrorText, "description": "The database is away; try again"},
}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": models.ErrorText, "description": "Not registered"}}
_WRITES: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorText, "description": "The signer is no edge of the transport"},
    409: {"model": models.ErrorText, "description": "In conflict with what is registered"},
    413: {"model": models.ErrorText, "description": f"More than {MAX_BODY} bytes or {models.MAX_ITEMS} items"},
    429: {"model": models.ErrorText, "description": "Over the signer's quota"},
}
# What may be asked next with what an answer says, for readers of the schema and for tests that follow it.
_OF_FIRST = {
    "transport": {"operationId": "transport", "parameters": {"t_id": "$response.body#/0/entry/t_id"}},
    "smallerEdge": {"operationId": "transportsOfEdge", "parameters": {"pk": "$response.body#/0/entry/edges/0"}},
    "largerEdge": {"operationId": "transportsOfEdge", "parameters": {"pk": "$response.body#/0/entry/edges/1"}},
    "nonce": {"operationId": "nonce", "parameters": {"pk": "$response.body#/0/entry/edges/0"}},
}
_OF_ONE = {
    "edge": {"operationId": "transportsOfEdge", "parameters": {"pk": "$response.body#/entry/edges/0"}},
}
_SIGNED = {
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "Part of the signature over body and decimal nonce",
        }
        for name in auth.HEADERS
    ]
}


class TooLarge(Exception):
    """The body has more bytes or items than are taken."""


def make_app(registry: Registry, quotas: Quotas, problem: Callable[[], str], collected: CollectorRegistry) -> FastAPI:
    """Return the ASGI application."""
    app = FastAPI(
        title="Skywire transport discovery",
        summary="Who is connected to whom",
        version="1",
        redirect_slashes=False,
        docs_url=None,  # FastAPI's page loads its scripts from elsewhere
        redoc_url=None,
    )
    _handle_errors(app)
    api = _Api(registry, quotas)
    _add_reads(app, api, registry)
    _add_writes(app, api)
    _add_own_pages(app, problem, collected)
    return app


def _add_reads(app: FastAPI, api: _Api, registry: Registry) -> None:
    """Add what anybody may ask of the registry."""

    @app.get(
        "/security/nonces/{pk}",
        operation_id="nonce",
        responses=_ERRORS | {200: {"model": models.NextNonce}},
        openapi_extra=_SIGNED,
    )
    async def next_nonce(pk: KeyPath, request: Request) -> Response:
        """Return the nonce of the key's next signed request."""
        key = _key(pk)
        nonce = await registry.database.read(calls.next_nonce, key)
        await api.count_read(request)
        return _json({"edge": pk, "next_nonce": nonce})

    @app.get(
        "/transports/id:{t_id}",
        operation_id="transport",
        responses=_ERRORS | _MISSING | {200: {"model": models.EntryWithStatus, "links": _OF_ONE}},
        openapi_extra=_SIGNED,
    )
    async def transport_by_id(t_id: IdPath, request: Request) -> Response:
        """Look one transport up."""
        if not _UUID.fullmatch(t_id):
            raise DecodeError("a transport id is a UUID in lower case")
        found = await registry.transport(UUID(t_id).bytes)
        await api.count_read(request)
        return _json(_with_status(found))

    @app.get(
        "/transports/edge:{pk}",
        operation_id="transportsOfEdge",
        responses=_ERRORS | {200: {"model": list[models.EntryWithStatus], "links": _OF_FIRST}},
        openapi_extra=_SIGNED,
    )
    async def transports_by_edge(pk: KeyPath, request: Request) -> Response:
        """List the transports of one node."""
        found = await registry.transports_of(_key(pk))
        await api.count_read(request)
        return _json([_with_status(transport) for transport in found])


def _add_writes(app: FastAPI, api: _Api) -> None:
    """Add what only the edges of a transport may do."""

    async def register(request: Request) -> Response:
        """Register transports that both edges signed; the signer of the request is one of them."""
        return _json(await api.register(request), 201)

    for path, shown in (("/transports/", True), ("/transports", False)):
        app.post(
            path,
            status_code=201,
            include_in_schema=shown,
            responses=_ERRORS | _WRITES | {201: {"model": list[models.SignedEntry], "links": _OF_FIRST}},
            openapi_extra=_SIGNED | _takes(list[models.SignedEntry]),
        )(register)

    @app.post(
        "/statuses",
        responses=_ERRORS | _MISSING | _WRITES | {200: {"model": list[models.EntryWithStatus], "links": _OF_FIRST}},
        openapi_extra=_SIGNED | _takes(list[models.Status]),
    )
    async def statuses(request: Request) -> Response:
        """Say which of the signer's transports are up."""
        return _json(await api.say(request))


def _add_own_pages(app: FastAPI, problem: Callable[[], str], collected: CollectorRegistry) -> None:
    """Add what the service says of itself: health, its API, metrics."""

    @app.get("/health", responses={200: {"model": models.Health}, 503: _ERRORS[503]})
    async def health() -> Response:
        """Say whether the service serves."""
        said = problem()
        return _json({"error": said}, 503) if said else _json({"status": "serving"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Show this API to people."""
        return Response(page.render(app.openapi()), media_type="text/html")

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """Show the counters, as Prometheus reads them."""
        return Response(generate_latest(collected), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Api:
    """What signed requests do."""

    def __init__(self, registry: Registry, quotas: Quotas) -> None:
        self._registry = registry
        self._quotas = quotas

    async def count_read(self, request: Request) -> None:
        """Move the nonce if the read that succeeded was signed."""
        signed = auth.check(request.headers, b"")
        if signed is not None:
            await self._registry.database.write(_once, signed, _nothing)

    async def register(self, request: Request) -> list[dict[str, object]]:
        body = await _body(request)
        signed = _signer(request, body)
        entries = [signed_entry_from_dict(document) for document in _list(body)]
        self._quotas.registrations(signed.key, len(entries))
        await check_entries(signed.key, entries)
        [done] = await self._registry.write(_once, signed, transports.register, [entries], self._registry.per_node)
        return [_signed(entry) for entry in _unless_failure(done)]

    async def say(self, request: Request) -> list[dict[str, object]]:
        body = await _body(request)
        signed = _signer(request, body)
        said = Said(signed.key, [_status(document) for document in _list(body)])
        [done] = await self._registry.write(_once, signed, transports.say, [said])
        return [_with_status(transport) for transport in _unless_failure(done)]


def _once(
    db: Connection,
    signed: Signed,
    work: Callable[Concatenate[Connection, P], list[R]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> list[R]:
    """Do the work if the nonce is the next one, and move it, in one transaction: what fails leaves the nonce alone."""
    if not calls.take_nonce(db, signed.key, signed.nonce):
        raise NonceMismatch
    done = work(db, *args, **kwargs)
    for one in done:
        if isinstance(one, Failure):
            raise one
    return done


def _nothing(_db: Connection) -> list[None]:
    return []


def _unless_failure(done: Sequence[R] | Failure) -> Sequence[R]:
    if isinstance(done, Failure):
        raise done
    return done


def _takes(kind: object) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": models.schema_of(kind)}}}}


def _signer(request: Request, body: bytes) -> Signed:
    signed = auth.check(request.headers, body)
    if signed is None:
        raise Failure(ErrorCode.UNAUTHENTICATED, f"writes are signed: {', '.join(auth.HEADERS)}")
    return signed


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise TooLarge
    parts: list[bytes] = []
    size = 0
    async with asyncio.timeout(BODY_S):
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY:
                raise TooLarge
            parts.append(part)
    return b"".join(parts)


def _list(body: bytes) -> list[object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"the body is JSON: {error}") from error
    if not isinstance(document, list):
        raise DecodeError("the body is a JSON list")
    if len(document) > models.MAX_ITEMS:
        raise TooLarge
    return document


def _status(document: object) -> tuple[bytes, bool]:
    if not isinstance(document, dict):
        raise DecodeError("a status is a JSON object")
    transport_id, up = document.get("t_id"), document.get("is_up")
    if not isinstance(transport_id, str) or not _UUID.fullmatch(transport_id):
        raise DecodeError("`t_id` is a UUID in lower case")
    if not isinstance(up, bool):
        raise DecodeError("`is_up` is a boolean")
    return UUID(transport_id).bytes, up


def _key(text: str) -> PublicKey:
    if not _HEX_KEY.fullmatch(text):
        raise DecodeError("a public key is 66 lower-case hex digits that start with 02 or 03")
    return PublicKey.parse(text)


def _with_status(transport: Transport) -> dict[str, object]:
    return {
        "entry": entry_to_dict(transport.signed.entry),
        "is_up": transport.is_up,
        "registered": transport.signed.registered,
        "statuses": [state.submitted and state.is_up for state in transport.states],
    }


def _signed(signed: SignedEntry) -> dict[str, object]:
    return {
        "entry": entry_to_dict(signed.entry),
        "signatures": [signature.hex() for signature in signed.signatures],
        "registered": signed.registered,
    }


def _json(document: object, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


def _handle_errors(app: FastAPI) -> None:
    """Answer every error as the original's clients read it."""

    @app.exception_handler(NonceMismatch)
    async def nonce(_request: Request, _error: Exception) -> Response:
        return _json({"error": {"message": auth.NONCE_MISMATCH, "code": 401}}, 401)

    @app.exception_handler(Failure)
    async def failure(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Failure)  # noqa: S101 - by the decorator
        return _json({"error": error.cause}, STATUS_OF.get(error.code, 500))

    @app.exception_handler(DecodeError)
    async def malformed(_request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - by the decorator
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return _json({"error": said}, 400)

    @app.exception_handler(TooLarge)
    async def too_large(_request: Request, _error: Exception) -> Response:
        return _json({"error": f"at most {MAX_BODY} bytes and {models.MAX_ITEMS} items"}, 413)

    @app.exception_handler(TimeoutError)
    async def too_slow(_request: Request, _error: Exception) -> Response:
        return _json({"error": f"the body did not come within {BODY_S:.0f} s"}, 408)

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - by the decorator
        answer = _json({"error": error.detail}, error.status_code)
        answer.headers.update(error.headers or {})
        return answer
