"""Leave out of the client wheel what only a server uses. `ingest/pyproject.toml` names the class below."""

from __future__ import annotations

import shutil

from setuptools.command.build_py import build_py

SERVER_ONLY = {
    "zarkov": {
        "apps",
        "client_wheel",
        "free_memory",
        "log_limit",
        "loopback",
        "models",
        "number_text",
        "settings",
        "time_zone",
        "yaml_text",
    },
    "zarkov.transport": {
        "awake_clock",
        "connection_hold",
        "hold_decision",
        "kernel_call",
        "kernel_socket",
        "memory_limit",
        "notice",
        "server_keys",
        "socket_drain",
    },
    "zarkov.wire": {
        "batch",
        "bson_document",
        "bson_reader",
        "codec",
        "reader_failure",
        "json_reader",
        "json_value",
        "text_check",
        "stored_event",
        "extended_json",
        "text_encoding",
        "time_text",
        "value_ends",
    },
    "zibrato": {"broker", "own_metrics"},
}


class BuildClient(build_py):  # type: ignore[misc]
    """Build the modules that a sending program can import."""

    def run(self) -> None:
        """Build from nothing: an earlier build may have left modules that are gone."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return `(package, module, file)` for each module of `package` that belongs to the client."""
        found = super().find_package_modules(package, package_dir)
        return [item for item in found if item[1] not in SERVER_ONLY.get(package, ())]
