"""Origins of web pages as a browser sends them: one that is spelt otherwise never matches."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

_ORIGIN = re.compile(r"(https?)://(\[[^\]]*\]|[^:\[\]/]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DEFAULT_PORT = {"http": 80, "https": 443}
_HIGHEST_PORT = 65535
_LONGEST_HOST = 253


def origin_fault(origin: str) -> tuple[str, str] | None:
    """What is wrong with an origin that has the right form, and the remedy; None if a browser can send it."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return None
    scheme, host, port = found.group(1), found.group(2), found.group(3)
    try:
        written_host = _as_sent(host.lower())
    except ValueError:
        return f"{host} is no name of a host", "a host is as in app.example.com, 127.0.0.1 or [::1]"
    if port is not None and not 1 <= int(port) <= _HIGHEST_PORT:
        return f"{int(port)} is no port", f"a port is 1 to {_HIGHEST_PORT}"
    shown_port = "" if port is None or int(port) == _DEFAULT_PORT[scheme] else f":{int(port)}"
    right = f"{scheme}://{written_host}{shown_port}"
    return None if right == origin else ("browsers spell this origin otherwise, so it never matches", f"write {right}")


def _as_sent(host: str) -> str:
    """The host as browsers write it. Raises ValueError."""
    if host.startswith("["):
        address = IPv6Address(host[1:-1])
        return f"[{_hexadecimal(address)}]"
    labels = host.removesuffix(".").split(".")
    if len(host) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(host)
    if labels[-1].isdecimal():
        return str(IPv4Address(".".join(labels)))
    return host


def _hexadecimal(address: IPv6Address) -> str:
    """Browsers write no part of it as an IPv4 address, as newer versions of Python do: [::ffff:7f00:1]."""
    if address.ipv4_mapped is None:
        return address.compressed
    value = int(address.ipv4_mapped)
    return f"::ffff:{value >> 16:x}:{value & 0xFFFF:x}"
