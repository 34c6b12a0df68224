"""Render the templates of all pages, ours and Django's, to text that has a form in UTF-8."""

from __future__ import annotations

from typing import Any

from django.template.backends.django import DjangoTemplates, Template
from django.utils.safestring import SafeString, mark_safe

from ingest.wire.text_check import with_halves_escaped


class PageTemplates(DjangoTemplates):
    """Django's templates, whose text is encoded in one place here: what they show can be any input.

    JSON can hold half of a surrogate pair, which UTF-8 has no form for; Django would answer 500.
    """

    def get_template(self, template_name: str) -> PageTemplate:
        """Return the template of that name. Raise `TemplateDoesNotExist`."""
        return PageTemplate(super().get_template(template_name).template, self)

    def from_string(self, template_code: str) -> PageTemplate:
        """Return the template that is written so."""
        return PageTemplate(super().from_string(template_code).template, self)


class PageTemplate(Template):
    """A template that shows half of a surrogate pair as JSON writes it, such as `\\ud800`."""

    def render(self, context: Any = None, request: Any = None) -> SafeString:
        """Return the text of the page."""
        return mark_safe(with_halves_escaped(super().render(context, request)))
