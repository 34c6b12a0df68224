"""`startagg NAME`: write a task file with a test, and print the next steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from aggregates.task_code import scaffold
from ingest.management.command import ZarkovCommand, name_program


class Command(ZarkovCommand):
    help = "Write the folder NAME with a task file and a test for it into the current folder. Overwrites nothing."
    example = "manage.py startagg logins"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="name of the aggregate and of the folder")
        parser.add_argument("--into", type=Path, default=Path(), help="parent folder; default: the current one")

    def perform(self, options: dict[str, Any]) -> int | None:
        made = scaffold.scaffold(options["name"], options["into"])
        for path in scaffold.write_files(made):
            self.stdout.write(f"wrote {path}")
        name, modules = made.name, settings.ZARKOV.task_modules
        steps = [f"change {made.folder / 'agg_tasks.py'} to what you want to count"]
        if made.module not in modules:
            wanted = ", ".join([*modules, made.module])
            steps.append(f"add to zarkov.yaml: task_modules: [{wanted}] (and restart what is running)")
        steps += [
            f"try it (needs pytest): python -m pytest {made.folder}",
            f"define it: in the admin, or manage.py shell -c \"AggDef.objects.create(name='{name}', "
            f"task_name='{made.task_name}', realtime=True)\"",
            f"run it: manage.py aggregate {name}",
            f'look at it: /aggregates/{name}/, or manage.py shell -c "print(list(db.zagg.{name}.find()))"',
        ]
        self.stdout.write("next:")
        for number, step in enumerate(steps, start=1):
            self.stdout.write(name_program(f"  {number}. {step}"))
        return None
