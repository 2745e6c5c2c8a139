"""A configuration service over HTTP that carries its own replica: three of these processes are one store.

EPAXOS_CONFIG=conf/local.toml EPAXOS_REPLICA=alpha uvicorn service:app --port 8000
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from epaxos import JSON, AsyncClient, ClientError, Node


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with Node(os.environ["EPAXOS_CONFIG"], os.environ["EPAXOS_REPLICA"]) as node:
        async with node.async_client(codec=JSON) as client:
            app.state.client = client
            yield


app = FastAPI(title="Settings", lifespan=lifespan)


def client_of(request: Request) -> AsyncClient[Any]:
    client: AsyncClient[Any] = request.app.state.client
    return client


@app.exception_handler(ClientError)
async def failed(_: Request, error: ClientError) -> JSONResponse:
    told = {"detail": str(error), "may_have_executed": error.may_have_executed}
    return JSONResponse(told, status_code=503)


@app.get("/settings/{name}")
async def read(name: str, request: Request) -> Any:
    value = await client_of(request).get(name.encode())
    if value is None:
        raise HTTPException(404, f"there is no setting {name}")
    return value


@app.put("/settings/{name}", status_code=204)
async def write(name: str, value: dict[str, Any], request: Request) -> None:
    await client_of(request).put(name.encode(), value)


@app.post("/visits")
async def visit(request: Request) -> dict[str, int]:
    return {"visits": await client_of(request).increment(b"visits")}
