"""Database URLs: taking them apart, and naming them without their secrets."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit


def describe(url: str) -> str:
    """user@host:port/database of a URL; never its password or parameters. Empty when the URL cannot be read."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not parts.scheme or not parts.netloc:
        return ""
    user = f"{unquote(parts.username)}@" if parts.username else ""
    place = f"[{host}]" if ":" in host else host
    return f"{user}{place}{f':{port}' if port else ''}{parts.path}"


def faults(url: str, schemes: tuple[str, ...], port: int) -> list[tuple[str, str]]:
    """What is wrong with a URL, as (what, fix). Says nothing of its content beyond scheme and missing parts."""
    shape = f"{schemes[0]}://user:${{PASSWORD}}@host:{port}/database"
    form = f'write url = "{shape}"'
    scheme, separator, _ = url.partition("://")
    if not separator:
        return [("is no database URL", form)]
    try:
        parts = urlsplit(url)
        bad_port = "," not in parts.netloc and parts.port == 0
    except ValueError:
        return [
            (
                "cannot be read as a URL: wrong port, or a character that has to be percent-encoded",
                f"{form}; in a password write @ as %40, / as %2F, # as %23",
            )
        ]
    found: list[tuple[str, str]] = []
    if scheme not in schemes:
        known = scheme if scheme.isalnum() and len(scheme) < 12 else "something else"
        found.append(
            (f"begins with {known}://, which does not belong to this adapter", f"begin it with {schemes[0]}://, or change the adapter")
        )
    if bad_port:
        found.append(("has port 0", form))
    if not parts.hostname and not {"host", "hostaddr", "service", "unix_socket"} & dict(parse_qsl(parts.query)).keys():
        found.append(("names no host", form))
    if not parts.path.strip("/"):
        found.append(("names no database", form))
    return found
