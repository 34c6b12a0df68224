"""`shell`: run Django's shell with `db` imported."""

from __future__ import annotations

from django.core.management.commands import shell


class Command(shell.Command):
    def get_auto_imports(self) -> list[str] | None:
        return [*(super().get_auto_imports() or []), "zarkov_site.shell.db"]
