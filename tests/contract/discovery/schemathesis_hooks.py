"""What schemathesis needs to get past the door: requests signed as an original client signs them, and real entries.

Loaded by `make schemathesis` (SCHEMATHESIS_HOOKS); runs in an environment of its own.
"""

from __future__ import annotations

import json
import os
from typing import Any

import requests
import schemathesis
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.http_auth import signed_payload

BASE = os.environ["DISCOVERY_URL"]
MINE, THEIRS = SecretKey.generate(), SecretKey.generate()
ENTRIES = [
    SignedEntry.unsigned(Entry.between(MINE.public, THEIRS.public, kind, public)).sign(MINE).sign(THEIRS)
    for kind in ("tcp", "messaging")
    for public in (True, False)
]


def signed(body: bytes) -> dict[str, str]:
    """Return the headers of a request with the key's next nonce."""
    nonce = requests.get(f"{BASE}/security/nonces/{MINE.public}", timeout=10).json()["next_nonce"]
    return {
        "SW-Public": str(MINE.public),
        "SW-Nonce": str(nonce),
        "SW-Sig": MINE.sign(signed_payload(body, nonce)).hex(),
    }


def register_all() -> None:
    """Have something to find."""
    body = b"[" + b",".join(entry.to_json() for entry in ENTRIES) + b"]"
    requests.post(f"{BASE}/transports/", data=body, headers=signed(body), timeout=10).raise_for_status()


register_all()


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ask for what is there as often as for what is not."""
    if path_parameters and str(path_parameters.get("t_id", "")).endswith(("0", "1", "2", "3", "4", "5", "6", "7")):
        path_parameters["t_id"] = str(ENTRIES[0].entry.transport_id)
    return path_parameters


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Sign every write, and every list that could be of transports name real ones now and then."""
    if case.method.upper() != "POST":
        return
    body = case.body
    if isinstance(body, list) and len(body) == 1 and isinstance(body[0], dict):
        if case.path == "/statuses" and isinstance(body[0].get("is_up"), bool):
            body[0]["t_id"] = str(ENTRIES[0].entry.transport_id)
        elif case.path == "/transports/" and isinstance(body[0].get("entry"), dict) and "signatures" in body[0]:
            body[0] = json.loads(ENTRIES[1].to_json())
    try:
        raw = json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError):
        return
    case.headers.update(signed(raw))
