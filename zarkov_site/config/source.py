"""Load the configuration from its sources, in ascending precedence: defaults, YAML file, environment, `--set`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ingest import yaml_text
from ingest.loopback import is_loopback
from zarkov_site.config.config import ROOT, Config
from zarkov_site.exceptions import ConfigError

PREFIX = "ZARKOV_"
FILE_VARIABLE = "ZARKOV_CONFIG"
SET_VARIABLE = "ZARKOV_SET"  # carries `--set` to child processes: one key=value per line
RESERVED = frozenset({FILE_VARIABLE, SET_VARIABLE, "ZARKOV_END_WITH_PARENT"})
TEST_PREFIX = "ZARKOV_TEST_"
IGNORED_KEYS = {
    "zmr.map_page_size": "splits are cut by document count now (zmr.map_job_size)",
    "zmr.request_greenlets": "the router answers all requests from one loop now",
    "zmr.sink_port": "reduces fetch map output from src_port; nothing is pushed to them",
}


@dataclass
class LayeredValues:
    """Values by dotted key, each with the source that set it last."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: Any, origin: str) -> None:
        """Set `key`, overriding earlier sources."""
        self.values[key] = value
        self.origin[key] = origin

    def nested(self) -> dict[str, Any]:
        """Return the values as a nested mapping for `Config`."""
        tree: dict[str, Any] = {}
        for key, value in self.values.items():
            *parents, leaf = key.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
        return tree


def section_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model class of a nested key, or None for a plain key."""
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key, in the order of the documentation."""
    for name, info in model.model_fields.items():
        nested = section_model(info.annotation)
        if nested:
            yield from known_keys(nested, f"{prefix}{name}.")
        else:
            yield prefix + name


def load(environ: Mapping[str, str] | None = None, folders: Sequence[Path] | None = None) -> tuple[Config, list[str]]:
    """Return the configuration and warnings about it.

    `folders` are searched for `zarkov.yaml` if no file is named (default: current folder, then the checkout).
    Raise `ConfigError` with key, value, source and what is allowed.
    """
    environ = os.environ if environ is None else environ
    layered = LayeredValues()
    _read_file(layered, environ.get(FILE_VARIABLE), folders or (Path.cwd(), ROOT))
    _read_environment(layered, environ)
    _read_assignments(layered, environ.get(SET_VARIABLE, ""))
    for key, origin in layered.origin.items():
        _check_known(key, layered.values[key], origin)
    try:
        config = Config.model_validate(layered.nested())
    except ValidationError as error:
        raise ConfigError(_sentence(error, layered)) from None
    return config, _warnings(config, layered)


def _read_file(layered: LayeredValues, name: str | None, folders: Sequence[Path]) -> None:
    path = Path(name) if name else next((f / "zarkov.yaml" for f in folders if (f / "zarkov.yaml").is_file()), None)
    if path is None:
        return
    try:
        content = yaml_text.loads(path.read_text(encoding="utf-8"), plain_numbers=True)
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}; name a file that can be read") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return
    if not isinstance(content, dict):
        raise ConfigError(f"configuration file {path} contains a {type(content).__name__}: use lines of key: value")
    for key, value in _flatten(content):
        layered.put(key, value, str(path))


def _flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    known = set(known_keys())
    for name, value in tree.items():
        if isinstance(value, dict) and f"{prefix}{name}" not in known:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read_environment(layered: LayeredValues, environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in RESERVED and not name.startswith(TEST_PREFIX):
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            layered.put(key, _scalar(environ[name]), f"environment variable {name}")


def _read_assignments(layered: LayeredValues, lines: str) -> None:
    for line in filter(None, lines.splitlines()):
        key, separator, value = line.partition("=")
        if not separator:
            raise ConfigError(f"--set {line} is not allowed: use key=value, such as --set web_port=8082")
        if value and not value.strip():
            raise ConfigError(f"--set {line!r} is not allowed: its value is blank; use {key.strip()}= for the default")
        layered.put(key.strip().replace("__", "."), _scalar(value.strip()), f"--set {line}")


def _scalar(text: str) -> Any:
    """Return None, which means the default, for an empty value or "null"; otherwise the text itself."""
    return None if text in {"", "null", "none", "None", "~"} else text


def _check_known(key: str, value: Any, origin: str) -> None:
    known = list(known_keys())
    if key in known:
        return
    if key in {name.split(".")[0] for name in known}:
        if value is None or value == {}:
            return
        raise ConfigError(f"{key}: {value!r} is not allowed ({origin}): use a mapping of {key}.* keys")
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise ConfigError(f"unknown key {key} = {value!r} ({origin}); {hint}Known keys: {', '.join(known)}")


def _sentence(error: ValidationError, layered: LayeredValues) -> str:
    parts = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
        message = item["msg"].removeprefix("Value error, ")
        if not key:
            parts.append(message)
            continue
        origin = layered.origin.get(key, "the default")
        parts.append(f"{key}: {item['input']!r:.200} is not allowed ({origin}): {message}")
    return "; ".join(parts)


def _warnings(config: Config, layered: LayeredValues) -> list[str]:
    found = [
        f"{key} = {layered.values[key]!r} ({layered.origin[key]}) has no effect: {reason}"
        for key, reason in IGNORED_KEYS.items()
        if key in layered.origin and attrgetter(key)(config)
    ]
    return found + config.exposed() + public_address_faults(config)


def public_address_faults(config: Config) -> list[str]:
    """Return a sentence for each setting of the public address that is allowed and yet a risk."""
    found = [config.public.fault()] if config.public else []
    found += [
        f"trusted_proxies has {network}: every client can then say which address it has; name the proxies only"
        for network in config.proxies
        if network.endswith("/0")
    ]
    if "*" in config.allowed_hosts and not is_loopback(config.web_host):
        found.append(
            f"allowed_hosts has * and web_host = {config.web_host} is not on loopback: a page of anybody can then "
            "reach this server under a name of its own (DNS rebinding); list the names that browsers use"
        )
    if config.anonymous_read and config.public and not is_loopback(config.public.host):
        found.append(
            f"anonymous_read is on and public_url = {config.public_url} is not on loopback: whoever reaches it "
            "reads every aggregate, event and refused input without a login; set anonymous_read: false unless all may"
        )
    if config.public_url and config.trusted_proxies is None and not is_loopback(config.web_host):
        found.append(
            f"web_host = {config.web_host} is not on loopback, and trusted_proxies does not name the proxy of "
            f"public_url = {config.public_url}: all its clients would count as one, and cookies would not be Secure; "
            "name its address, or set trusted_proxies: [] if there is none"
        )
    return [sentence for sentence in found if sentence]
