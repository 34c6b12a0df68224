"""Who may do what over HTTP. One place decides; every view asks it.

Capabilities: `ingest` (send events), `read`, `operate` (start and cancel runs, jobs, quarantine) and `edit`
(definitions, charts, embed links). A login has those of its groups, a token those of its scope, and nobody else has
any, except that `anonymous_read` lets everybody read.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from aggregates.web.exceptions import ForbiddenError, NotLoggedInError

INGEST: Final = "ingest"
READ: Final = "read"
OPERATE: Final = "operate"
EDIT: Final = "edit"
SCOPES: Final = (INGEST, READ, OPERATE)

# What a token's scope or a user's group opens. Operating without seeing the result is no use, so it reads too.
OF_SCOPE = {INGEST: {INGEST}, READ: {READ}, OPERATE: {READ, OPERATE, EDIT}}
OF_GROUP = {"viewer": {READ}, "operator": {READ, OPERATE}, "editor": {READ, OPERATE, EDIT, INGEST}}
ALL = frozenset({INGEST, READ, OPERATE, EDIT})


@dataclass(frozen=True)
class Rights:
    """What one request may do."""

    capabilities: frozenset[str] = frozenset()
    known: bool = False  # whether there is a login or a token
    collections: tuple[str, ...] = ()  # patterns of aggregates a token is limited to; empty = no limit

    def may(self, capability: str) -> bool:
        """Whether this is among the capabilities."""
        return capability in self.capabilities

    def may_read(self, name: str) -> bool:
        """Whether the aggregate `name` (without `zagg.`) may be read."""
        limited = self.collections and not any(fnmatchcase(name, pattern) for pattern in self.collections)
        return self.may(READ) and not limited

    def require(self, capability: str) -> None:
        """Raise `NotLoggedInError` or `ForbiddenError` unless the capability is there."""
        if self.may(capability):
            return
        if not self.known:
            raise NotLoggedInError("log in, or send a token in the header Authorization: Token ...")
        limited = ", which no token has that is limited to some aggregates" if self.collections else ""
        raise ForbiddenError(f"this needs the right to {capability}{limited}", needs=capability)

    def require_name(self, name: str) -> None:
        """Raise unless the aggregate `name` may be read."""
        self.require(READ)
        if not self.may_read(name):
            raise ForbiddenError(f"this token may not read {name[:120]!r}", collection=name[:120])

    def require_unlimited(self) -> None:
        """Raise for a token that is limited to some aggregates, where an answer would show more."""
        self.require(READ)
        if self.collections:
            raise ForbiddenError("this token is limited to some aggregates and may not read this")


def rights_of(request: HttpRequest) -> Rights:
    """Rights of a request, by its token if it has one, else by its login. Raises `NotLoggedInError` for a bad token.

    The answer is kept on the request, which may be Django's or the REST framework's.
    """
    plain = getattr(request, "_request", request)
    found: Rights | None = getattr(plain, "zarkov_rights", None)
    if found is None:
        found = _find(plain)
        plain.zarkov_rights = found  # type: ignore[union-attr]
    return found


def _find(request: HttpRequest) -> Rights:
    if request.META.get("HTTP_AUTHORIZATION"):
        try:
            pair = TokenAuthentication().authenticate(request)
        except (AuthenticationFailed, UnicodeDecodeError):
            raise NotLoggedInError("the token is unknown, expired or revoked") from None
        if pair is not None:
            return of_token(pair[1])
    return _with_anonymous(of_user(getattr(request, "user", None)))


def of_token(token: Any) -> Rights:
    """Rights of a token: those of its scope. One that is limited to some aggregates changes nothing at all."""
    capabilities = {capability for scope in token.scope_list() for capability in OF_SCOPE.get(scope, ())}
    collections = tuple(token.collection_list())
    if collections:
        capabilities -= {OPERATE, EDIT}
    return Rights(frozenset(capabilities), known=True, collections=collections)


def of_user(user: Any) -> Rights:
    """Rights of a login: those of its groups; a superuser has all."""
    if user is None or not user.is_authenticated or not user.is_active:
        return Rights()
    if user.is_superuser:
        return Rights(ALL, known=True)
    names = user.groups.values_list("name", flat=True)
    return Rights(frozenset().union(*(OF_GROUP.get(name, ()) for name in names)) | {READ}, known=True)


def _with_anonymous(rights: Rights) -> Rights:
    if settings.ZARKOV.anonymous_read:
        return Rights(rights.capabilities | {READ}, rights.known, rights.collections)
    return rights
