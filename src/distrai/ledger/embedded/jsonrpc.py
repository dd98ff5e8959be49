"""JSON-RPC 2.0 over one body of bytes: single calls and batches, with the error codes that EVM nodes use."""

import logging
from typing import Any

import msgspec

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.methods import METHODS
from distrai.ledger.embedded.parameters import InvalidParams
from distrai.ledger.embedded.records import CallReverted, ChainError, TooManyLogs
from distrai.ledger.embedded.rendering import to_hex

BATCH_MAX = 100
"""Calls in one batch."""
ANSWER_BYTES_MAX = 16 << 20
"""Bytes after which the rest of a batch is refused unread."""

_BRACKETS_MAX = 2_000
"""Arrays and objects in one body. py-evm raises Python's recursion limit so far that the JSON decoder, which has no
limit of its own, would run out of stack on deeply nested input and take the process with it."""

_PARSE_ERROR, _INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS, _INTERNAL = (
    -32700,
    -32600,
    -32601,
    -32602,
    -32603,
)
_SERVER_ERROR, _LIMIT_EXCEEDED = -32000, -32005
_REVERTED = 3
_log = logging.getLogger(__name__)


def answer(chain: EmbeddedChain, body: bytes) -> bytes:
    """The answer to ``body``; never raises for anything a client sent."""
    if body.count(b"[") + body.count(b"{") > _BRACKETS_MAX:
        return _failure(None, _INVALID_REQUEST, f"at most {_BRACKETS_MAX} arrays and objects in one body")
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return _failure(None, _PARSE_ERROR, "not JSON")
    if not isinstance(request, list):
        return _answer_one(chain, request)
    if not 1 <= len(request) <= BATCH_MAX:
        return _failure(None, _INVALID_REQUEST, f"a batch holds 1 to {BATCH_MAX} calls")
    answers: list[bytes] = []
    size = 0
    for item in request:
        if size > ANSWER_BYTES_MAX:
            answers.append(
                _failure(_id(item), _LIMIT_EXCEEDED, "the batch's answer is too large: ask in parts")
            )
            continue
        answers.append(_answer_one(chain, item))
        size += len(answers[-1])
    return b"[" + b",".join(answers) + b"]"


def _id(request: Any) -> Any:
    found = request.get("id") if isinstance(request, dict) else None
    return found if isinstance(found, (str, int, float)) else None


def _answer_one(chain: EmbeddedChain, request: Any) -> bytes:
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return _failure(
            _id(request), _INVALID_REQUEST, "a call is an object with jsonrpc, id, method, params"
        )
    params = request.get("params") or []
    if not isinstance(params, list):
        return _failure(_id(request), _INVALID_PARAMS, "params are a list")
    method = METHODS.get(request["method"])
    if method is None:
        return _failure(_id(request), _METHOD_NOT_FOUND, f"there is no method {request['method'][:64]}")
    try:
        result = method(chain, params)
    except InvalidParams as error:
        return _failure(_id(request), _INVALID_PARAMS, str(error))
    except CallReverted as error:
        return _failure(_id(request), _REVERTED, str(error), to_hex(error.data))
    except TooManyLogs as error:
        return _failure(_id(request), _LIMIT_EXCEEDED, str(error))
    except ChainError as error:
        return _failure(_id(request), _SERVER_ERROR, str(error))
    except Exception:  # noqa: BLE001
        # Our own mistake: say so without details, keep serving, and leave the trace where the operator finds it.
        _log.exception("%s failed", request["method"])
        return _failure(_id(request), _INTERNAL, "internal error")
    return msgspec.json.encode({"jsonrpc": "2.0", "id": _id(request), "result": result})


def _failure(request_id: Any, code: int, message: str, data: str | None = None) -> bytes:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": error})
