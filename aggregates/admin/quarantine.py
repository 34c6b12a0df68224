"""The quarantine in the admin: show refused input and the reason, mend it, replay it, delete it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from pymongo.database import Database
from pymongo.errors import PyMongoError

from aggregates.services.quarantine import ReplayCounts, replay_entries
from aggregates.web.api.quarantine import from_replay_error, read_selection
from aggregates.web.compute_thread import compute
from aggregates.web.exceptions import WebError
from aggregates.web.mongo import database, to_web_error
from ingest.exceptions import IngestError
from ingest.load import quarantine_input, quarantine_replay
from ingest.load.quarantine_input import MendError
from ingest.load.quarantine_replay import UnknownEntryError
from ingest.models import QuarantineEntry
from ingest.store import quarantine
from ingest.store.quarantine import Selection, key_text, parse_key
from ingest.wire.quarantine_codes import CODES
from ingest.wire.refusal import pieces_of, stands_for_several

LIST = "admin:ingest_quarantineentry_changelist"
ENTRY = "admin:ingest_quarantineentry_change"
PER_PAGE = 50
PREVIEW_CHARS = 90
HEX_BYTES = 2_048
TEXT_BYTES = 65_536
EMPTY = '{\n  "type": "",\n  "context": {}\n}'


@dataclass(frozen=True)
class Row:
    """One line of the list."""

    key: str
    entry: dict[str, Any]
    preview: str


@admin.register(QuarantineEntry)
class QuarantineAdmin(admin.ModelAdmin):
    """Quarantine entries: a list and a page per entry. Both read MongoDB."""

    class Media:
        css = {"all": ("zarkov-admin/admin.css", "zarkov-admin/quarantine.css")}
        js = ("zarkov-admin/quarantine.js",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: only ingesters add entries."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return the permission to replay, which includes deletion."""
        return self.has_change_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, or act on many entries.

        Answer 400 with a message for a filter that cannot be read, 503 if MongoDB does not answer.
        """
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        try:
            return self._act_on_many(request) if request.method == "POST" else self._list(request)
        except (WebError, PyMongoError) as error:
            shown = to_web_error(error) if isinstance(error, PyMongoError) else error
            context = self._context(request, "Quarantine") | {"failure": str(shown)}
            return TemplateResponse(
                request, "admin/ingest/quarantineentry/change_list.html", context, status=shown.status
            )

    def _list(self, request: HttpRequest) -> HttpResponse:
        selection = read_selection(request)
        opened = database()
        try:
            found, following = quarantine.page(opened, selection, cursor=request.GET.get("cursor", ""), limit=PER_PAGE)
        except quarantine.KeyFormatError:
            return HttpResponseRedirect(reverse(LIST))
        counts = quarantine.counts(opened)
        waiting = Selection(selection.code, selection.source, selection.since, selection.until, False)
        context = self._context(request, "Quarantine") | {
            "rows": [Row(key_text(entry["_id"]), entry, preview(entry)) for entry in found],
            "next": _changed(request.GET, cursor=following) if following else "",
            "first": _changed(request.GET, cursor="") if request.GET.get("cursor") else "",
            "kinds": _kinds(counts, request.GET),
            "sources": sorted({each.source for each in counts}),
            "total": sum(each.count for each in counts),
            "documents": sum(each.documents for each in counts),
            "waiting": _number(opened, waiting, counts),
            "matching": _number(opened, selection, counts),
            "given": request.GET,
            "filtered": any(request.GET.get(name) for name in ("code", "source", "from", "to", "replayed")),
        }
        return TemplateResponse(request, "admin/ingest/quarantineentry/change_list.html", context)

    def _act_on_many(self, request: HttpRequest) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        action = request.POST.get("action", "")
        what: Selection | list[dict[str, Any]]
        try:
            if action.endswith("_all"):
                what = read_selection(request)
            else:
                what = [parse_key(key) for key in request.POST.getlist("key")]
            if what == []:
                self.message_user(request, "Select entries first.", messages.WARNING)
            elif action.startswith("replay"):
                self._show_counts(request, replay_entries(database(), what, by=str(request.user)))
            elif action.startswith("delete"):
                self.message_user(request, f"{quarantine.delete(database(), what):,} deleted.", messages.SUCCESS)
        except Exception as error:  # noqa: BLE001 - raised again unless it is of a known kind
            self._show_failure(request, error)
        return HttpResponseRedirect(f"{reverse(LIST)}?{request.GET.urlencode()}")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        try:
            entry = quarantine.find(database(), parse_key(object_id))
        except quarantine.KeyFormatError:
            entry = None
        if entry is None:
            raise Http404(f"there is no quarantine entry {object_id}")
        text = None
        if request.method == "POST":
            text = request.POST.get("text", "")
            if answer := self._act_on_one(request, entry, text):
                return answer
        return self._entry(request, entry, text)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Answer 404: entries are deleted on their page, and Django's database has none."""
        raise Http404("delete an entry on its page")

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Answer 404: entries have no history."""
        raise Http404("entries have no history")

    def _act_on_one(self, request: HttpRequest, entry: dict[str, Any], text: str) -> HttpResponse | None:
        """Perform the posted action. Return None to show the form again with the text that was typed."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        action, key = request.POST.get("action", ""), entry["_id"]
        try:
            if action == "delete":
                quarantine.delete(database(), [key])
                self.message_user(request, "1 deleted.", messages.SUCCESS)
                return HttpResponseRedirect(reverse(LIST))
            as_it_is = action == "replay" and stands_for_several(entry)
            made = None if as_it_is else quarantine_input.from_text(text, quarantine_input.mended_of(entry))
            if made is not None and action == "keep":
                quarantine_replay.keep_mended(database(), key, made)
                self.message_user(request, "Kept: a replay sends this text.", messages.SUCCESS)
            else:
                counts = replay_entries(database(), [key], by=str(request.user), mended=made)
                self._show_counts(request, counts)
                if not counts.accepted:
                    return None
        except MendError as error:
            self.message_user(request, f"Still no event: {error}", messages.ERROR)
            return None
        except UnknownEntryError as error:
            raise Http404(str(error)) from None
        except Exception as error:  # noqa: BLE001 - raised again unless it is of a known kind
            self._show_failure(request, error)
            return None
        return HttpResponseRedirect(reverse(ENTRY, args=[key_text(key)]))

    def _entry(self, request: HttpRequest, entry: dict[str, Any], text: str | None) -> HttpResponse:
        size_bytes = len(entry.get("raw", b"")) + len(entry.get("mended", b""))
        context = self._context(request, f"Refused: {CODES.get(entry['code'], entry['code'])}") | {
            "key": key_text(entry["_id"]),
            "entry": entry,
            "is_whole": "raw" in entry,
            "is_mended": "mended" in entry,
            "count": quarantine_input.document_count(entry),
            "is_one": not stands_for_several(entry),
            **compute(size_bytes, _shown_input, entry),
        }
        if text is not None:
            context["text"] = text
        return TemplateResponse(request, "admin/ingest/quarantineentry/change_form.html", context)

    def _context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "codes": CODES,
            "may_change": self.has_change_permission(request),
        }

    def _show_failure(self, request: HttpRequest, error: Exception) -> None:
        shown = from_replay_error(error)
        if not isinstance(shown, IngestError | WebError):
            raise error
        self.message_user(request, str(shown), messages.ERROR)

    def _show_counts(self, request: HttpRequest, counts: ReplayCounts) -> None:
        level = messages.SUCCESS if not counts.refused else messages.WARNING
        examples = "".join(f"; {text}" for text in dict.fromkeys(message for _, message in counts.examples[:3]))
        self.message_user(request, f"{counts.sentence()}{examples}", level)


def _shown_input(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what the page of an entry shows of its input, in the names of the template."""
    raw = entry.get("raw", entry.get("raw_start", b""))
    document = quarantine_input.decoded(entry)
    readable = quarantine_input.as_text(document) if document is not None else ""
    return {
        "hex": hex_dump(raw[:HEX_BYTES]),
        "hex_cut": len(raw) > HEX_BYTES,
        "plain": quarantine_input.raw_text(raw[:TEXT_BYTES]),
        "readable": readable if len(readable) <= TEXT_BYTES else f"{readable[:TEXT_BYTES]}…",
        "text": quarantine_input.text_to_mend(entry) or EMPTY,
        "is_replayable": pieces_of(entry) is not None,
        "is_windows_1252": quarantine_input.is_offered_as_windows_1252(entry),
    }


def preview(entry: dict[str, Any]) -> str:
    """Return the start of the input as one line of text; empty if the list leaves out its bytes."""
    raw = entry.get("raw", b"")
    document = quarantine_input.decoded(entry) if raw else None
    text = (
        quarantine_input.raw_text(raw) if document is None or raw[:1] in b"{[" else quarantine_input.as_text(document)
    )
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= PREVIEW_CHARS else f"{line[: PREVIEW_CHARS - 1]}…"


def hex_dump(raw: bytes) -> str:
    """Format bytes in lines of sixteen: position, hexadecimal, and text."""
    lines = []
    for start in range(0, len(raw), 16):
        part = raw[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        lines.append(f"{start:06x}  {part.hex(' ', 1):<47}  {text}")
    return "\n".join(lines)


def _number(opened: Database[dict[str, Any]], selection: Selection, counts: list[quarantine.Count]) -> int:
    """Return the number of entries in a selection; MongoDB counts them only if `counts` is not enough."""
    if selection.since is not None or selection.until is not None:
        return quarantine.count_selected(opened, selection)
    return sum(
        each.count
        for each in counts
        if selection.code in ("", each.code)
        and selection.source in ("", each.source)
        and selection.replayed in (None, each.replayed)
    )


def _kinds(counts: list[quarantine.Count], given: QueryDict) -> list[dict[str, Any]]:
    """List codes with their counts, each with the query string that shows only it (or all again)."""
    sums: dict[str, int] = {}
    for each in counts:
        sums[each.code] = sums.get(each.code, 0) + each.count
    chosen = given.get("code", "")
    return [
        {"code": code, "count": count, "chosen": code == chosen, "meaning": CODES.get(code, ""),
         "query": _changed(given, code="" if code == chosen else code, cursor="")}
        for code, count in sorted(sums.items(), key=lambda item: -item[1])
    ]  # fmt: skip


def _changed(given: QueryDict, **changes: str | None) -> str:
    """Return the query string with some parameters changed; empty ones are left out."""
    changed = given.copy()
    for name, value in changes.items():
        if value:
            changed[name] = value
        else:
            changed.pop(name, None)
    return changed.urlencode()
