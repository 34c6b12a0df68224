"""Decide what a request may do, for all views.

Capabilities: `ingest` (send events), `read`, `operate` (start and cancel runs, jobs, quarantine) and `edit`
(definitions, charts, embed links). A login has those of its groups, a token those of its scopes. Other requests have
none, but `anonymous_read` gives `read` to all.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest

from aggregates.web.auth.token_check import check_token
from aggregates.web.exceptions import ForbiddenError, NotLoggedInError

INGEST: Final = "ingest"
READ: Final = "read"
OPERATE: Final = "operate"
EDIT: Final = "edit"
SCOPES: Final = (INGEST, READ, OPERATE)

# Capabilities of a token's scope or a user's group. Operating includes reading, to see the result.
SCOPE_CAPABILITIES = {INGEST: {INGEST}, READ: {READ}, OPERATE: {READ, OPERATE, EDIT}}
GROUP_CAPABILITIES = {"viewer": {READ}, "operator": {READ, OPERATE}, "editor": {READ, OPERATE, EDIT, INGEST}}
ALL = frozenset({INGEST, READ, OPERATE, EDIT})


@dataclass(frozen=True)
class Rights:
    """The rights of one request."""

    capabilities: frozenset[str] = frozenset()
    authenticated: bool = False  # True if there is a login or a token
    collections: tuple[str, ...] = ()  # patterns of aggregates a token is limited to; empty = no limit

    def may(self, capability: str) -> bool:
        return capability in self.capabilities

    def may_read(self, name: str) -> bool:
        """Return True if the aggregate `name` (without `zagg.`) may be read."""
        limited = self.collections and not any(fnmatchcase(name, pattern) for pattern in self.collections)
        return self.may(READ) and not limited

    def require(self, capability: str) -> None:
        """Raise `NotLoggedInError` or `ForbiddenError` if `capability` is missing."""
        if self.may(capability):
            return
        if not self.authenticated:
            raise NotLoggedInError("log in, or send a token in the header `Authorization: Token ...`")
        limited = ", which a token limited to some aggregates never has" if self.collections else ""
        raise ForbiddenError(f"this needs the right to {capability}{limited}", needs=capability)

    def require_name(self, name: str) -> None:
        """Raise `NotLoggedInError` or `ForbiddenError` if the aggregate `name` may not be read."""
        self.require(READ)
        if not self.may_read(name):
            raise ForbiddenError(f"this token may not read {name[:120]!r}", collection=name[:120])

    def require_unlimited(self) -> None:
        """Raise `ForbiddenError` for a token limited to some aggregates, because the answer would show more."""
        self.require(READ)
        if self.collections:
            raise ForbiddenError("this token is limited to some aggregates and may not read this")


def rights_of(request: HttpRequest) -> Rights:
    """Return the rights of the request's token if it has one, else of its login.

    Raise `NotLoggedInError` for an invalid token. `request` is Django's or the REST framework's; it caches the result.
    """
    plain = getattr(request, "_request", request)
    found: Rights | None = getattr(plain, "zarkov_rights", None)
    if found is None:
        found = _find(plain)
        plain.zarkov_rights = found  # type: ignore[union-attr]
    return found


def _find(request: HttpRequest) -> Rights:
    if request.META.get("HTTP_AUTHORIZATION"):
        pair = check_token(request)
        if pair is not None:
            return rights_of_token(pair[1])
    return _with_anonymous(rights_of_user(getattr(request, "user", None)))


def rights_of_token(token: Any) -> Rights:
    """Return the rights of a token: those of its scopes. A token limited to some aggregates cannot change anything."""
    capabilities = {capability for scope in token.scope_list() for capability in SCOPE_CAPABILITIES.get(scope, ())}
    collections = tuple(token.collection_list())
    if collections:
        capabilities -= {OPERATE, EDIT}
    return Rights(frozenset(capabilities), authenticated=True, collections=collections)


def rights_of_user(user: Any) -> Rights:
    """Return the rights of a login: `read` and those of its groups. A superuser has all."""
    if user is None or not user.is_authenticated or not user.is_active:
        return Rights()
    if user.is_superuser:
        return Rights(ALL, authenticated=True)
    names = user.groups.values_list("name", flat=True)
    return Rights(frozenset().union(*(GROUP_CAPABILITIES.get(name, ()) for name in names)) | {READ}, authenticated=True)


def _with_anonymous(rights: Rights) -> Rights:
    if settings.ZARKOV.anonymous_read:
        return Rights(rights.capabilities | {READ}, rights.authenticated, rights.collections)
    return rights
