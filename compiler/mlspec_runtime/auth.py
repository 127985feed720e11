"""API keys: read from the environment, shown by clients in a header, compared in constant time."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.plan import Auth

LEAST_CHARACTERS = 8
KEY_HEADER = "X-API-Key"
OPEN_PATHS = frozenset(("/", "/health"))
"""Without a key, of what the application answers: the page and the documents, which hold the types of requests and
nothing of what is asked, and which a browser has to load before it can send a key; and /health, which supervisors and
load balancers ask. The documents' own paths are added where they are served. /metrics, /livez, /readyz and /healthz
are answered before the application is asked.
"""


class Keys:
    """The keys that are good. Of each only a digest is kept, under a secret of this process."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._secret = os.urandom(32)
        self._digests = [self._digest(key.encode()) for key in keys]

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._secret, key, "sha256")

    def knows(self, key: bytes) -> bool:
        """Whether it is one of them; takes as long for each."""
        digest = self._digest(key)
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def check(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises ServiceError (401), the same without a key and with a wrong one."""
        if sum(map(self.knows, _shown(headers))) == 0:
            raise ServiceError("unauthorized", f"send an API key: Authorization: Bearer KEY, or {KEY_HEADER}: KEY", 401)


def _shown(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The keys in a request's headers; ASGI gives names in lower case."""
    shown = [value.strip() for name, value in headers if name == KEY_HEADER.lower().encode()]
    for name, value in headers:
        scheme, _, key = value.strip().partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            shown.append(key.strip())
    return shown


def given_keys(auth: Auth, environment: Mapping[str, str]) -> Sequence[str]:
    """The keys that the variable holds, between commas."""
    parts = (part.strip() for part in environment.get(auth.api_key_env, "").split(","))
    return [part for part in parts if part]


def keys_from(auth: Auth | None, environment: Mapping[str, str]) -> Keys | None:
    """None where the plan asks for no keys. Without a good one nobody is let in."""
    if auth is None:
        return None
    return Keys(given_keys(auth, environment) if key_problem(auth, environment) is None else ())


def key_problem(auth: Auth | None, environment: Mapping[str, str]) -> str | None:
    """Why a service that asks for keys can't start; None if it can. Never holds a key."""
    if auth is None:
        return None
    keys = given_keys(auth, environment)
    if not keys:
        return f"{auth.api_key_env} is not set and must hold the API keys, separated by commas; set it and start again"
    if min(map(len, keys)) < LEAST_CHARACTERS:
        return (
            f"{auth.api_key_env} holds a key of fewer than {LEAST_CHARACTERS} characters, which can be guessed; "
            "set longer ones (as from: openssl rand -hex 32) and start again"
        )
    return None
