"""The configuration object: its keys, defaults and checks.

`zarkov_site.config.source` reads the values, `zarkov_site.config.home` knows the files below `home`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from ingest.loopback import is_loopback
from ingest.settings import IngestSettings, JournalSettings
from mapreduce.settings import EngineSettings
from zarkov_site.config.home import HomeFolder
from zarkov_site.config.listen_address import (
    TCP,
    TCP_NO_PORT,
    Address,
    Host,
    HostPort,
    in_url,
    names_in_requests,
    reachable,
)
from zarkov_site.config.public_address import WEB_PORT, PublicAddress
from zarkov_site.config.section import MetricsConfig, NotifyConfig, Section, ZmrConfig
from zarkov_site.config.server_address import AllowedHosts, MongoUri, Networks, Origins, PublicUrl
from zarkov_site.config.value import DatabaseName, Folder, Port, Size, Sync, TaskModules, Zone
from zarkov_site.exceptions import ConfigError, HomeError

if TYPE_CHECKING:
    from ingest.transport.client_keys import ClientKeys

REPOSITORY = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (REPOSITORY / "manage.py").is_file()  # else installed from a wheel
ROOT = REPOSITORY if IS_CHECKOUT else Path.cwd()  # of relative paths in the configuration
INGEST_SOCKETS = ("bson_bind_address", "json_bind_address", "ack_bind_address", "publish_bind_address")
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")


class Config(Section):
    """All settings, as docs/settings.md lists them. Paths are absolute once loaded.

    Build it with `zarkov_site.config.source.load`, whose errors name the source of each value.
    """

    home: Folder = Field(Path("var"), description="Folder of everything Zarkov writes on this machine.")
    bson_bind_address: Address = Field("tcp://127.0.0.1:6543", description="PULL socket for BSON events.")
    json_bind_address: Address = Field("tcp://127.0.0.1:6544", description="PULL socket for JSON events.")
    ack_bind_address: Address = Field("tcp://127.0.0.1:6546", description="ROUTER socket, acknowledged events.")
    publish_bind_address: Address = Field("tcp://127.0.0.1:6547", description="PUB socket for notices.")
    web_host: Host = Field("127.0.0.1", description="Interface of the web server, such as 127.0.0.1, 0.0.0.0 or ::1.")
    web_port: Port = Field(WEB_PORT, description="Port of the web server.")
    public_url: PublicUrl | None = Field(
        None, description="Address of the web server as browsers see it; none = they reach it without a proxy."
    )
    trusted_proxies: Networks | None = Field(
        None, description="Proxies whose X-Forwarded-... headers are believed; none = loopback if `public_url` is set."
    )
    mongo_uri: MongoUri | None = Field(
        None, description="A replica set or sharded cluster; none = a local mongod is started."
    )
    mongo_database: DatabaseName = Field("zarkov", description="Database.")
    time_zone: Zone = Field(
        "UTC", description="Zone in which times are shown and ranges are read, unless something else is said."
    )
    journal: Folder | None = Field(None, description="Folder of the journals; by default `journal` in `home`.")
    journal_segment_bytes: Size = Field(8 * 2**20, ge=4096, description="Size at which a segment is closed.")
    journal_max_bytes: Size = Field(2**30, ge=2**20, description="Size at which the ingester stops reading.")
    journal_sync: Sync = Field("batch", description="batch, interval:MS or off; the acknowledged socket always syncs.")
    incremental: int = Field(
        0, ge=0, description="Events after which a realtime aggregate is refreshed; 0 = as soon as there are any."
    )
    refresh_min_ms: int = Field(100, ge=0, description="Minimum pause between two refreshes of one aggregate.")
    anonymous_read: bool = Field(False, description="Whether pages and queries can be read without a login.")
    allow_insecure_bind: bool = Field(
        False, description="Whether sockets may listen beyond loopback without CURVE keys."
    )
    allowed_hosts: AllowedHosts = Field(
        [], description="Host names under which the web server answers, besides loopback, `web_host`, `public_url`."
    )
    cors_origins: Origins = Field(
        [], description="Sites whose scripts may read the API, such as https://wiki.example.org."
    )
    task_modules: TaskModules = Field(
        [], description="Modules that may hold tasks, besides `agg_tasks` of installed apps."
    )
    verbose: bool = Field(False, description="Log at level DEBUG.")
    backdoor: HostPort | None = Field(
        None, description="Loopback HOST:PORT of a Python prompt inside the ingester; none = off."
    )
    zmr: ZmrConfig = Field(ZmrConfig(), description="The map-reduce engine.")
    metrics: MetricsConfig = Field(MetricsConfig(), description="The metrics broker.")
    notify: NotifyConfig = Field(NotifyConfig(), description="Mail and webhook.")

    @model_validator(mode="after")
    def _ports_differ(self) -> Config:
        seen: dict[str, str] = {}
        for key, address in self.sockets().items():
            if address in seen and not address.endswith(":0"):
                raise ValueError(f"{key} and {seen[address]} are both {address}: give each its own port")
            seen[address] = key
        return self

    @model_validator(mode="after")
    def _journal_holds_segments(self) -> Config:
        if self.journal_max_bytes < 2 * self.journal_segment_bytes and "journal_segment_bytes" in self.model_fields_set:
            raise ValueError(
                f"journal_segment_bytes: {self.journal_segment_bytes} is not allowed: it must be at most "
                f"half of journal_max_bytes, {self.journal_max_bytes}"
            )
        return self

    def sockets(self) -> dict[str, str]:
        """Return the address of each listening ZeroMQ socket by its dotted key."""
        return {
            **{key: getattr(self, key) for key in INGEST_SOCKETS},
            "zmr.req_bind": self.zmr.req_bind,
            "zmr.worker_bind": self.zmr.worker_bind,
            "metrics.publishers": self.metrics.address(0),
            "metrics.backends": self.metrics.address(1),
        }

    def exposed(self) -> list[str]:
        """Return one sentence per unencrypted socket that listens beyond loopback; empty if there is none."""
        encrypted = [
            prefix
            for prefix, file in (("zmr.", "zmr.curve"), *((key, "ingest.curve") for key in INGEST_SOCKETS))
            if (self.folder.keys / file).exists()
        ]
        listening = self.sockets() | {"web_host": self.web_address}
        if self.zmr.worker_uri and TCP_NO_PORT.match(self.zmr.worker_uri):  # workers serve their map output there
            listening["zmr.worker_uri"] = f"{self.zmr.worker_uri}:{self.zmr.src_port}"
        return [
            f"{key} = {address} listens beyond loopback"
            for key, address in listening.items()
            if (match := TCP.match(address)) and not is_loopback(match[1]) and not key.startswith(tuple(encrypted))
        ]

    def refuse_exposure(self) -> None:
        """Raise `ConfigError` if a socket listens beyond loopback without keys or `allow_insecure_bind`.

        Processes call this before they bind; `checkconfig` only warns.
        """
        if (found := self.exposed()) and not self.allow_insecure_bind:
            without_curve = all(sentence.startswith(("metrics.", "web_host")) for sentence in found)
            remedy = (
                "no key encrypts this: keep it on loopback behind a tunnel or proxy, or, in a network that you trust,"
                if without_curve
                else "make CURVE keys (manage.py curvekeys), or"
            )
            raise ConfigError(f"{'; '.join(found)}: {remedy} set allow_insecure_bind: true")

    @property
    def web_address(self) -> str:
        """Return where the web server listens, as a ZeroMQ address."""
        return f"tcp://{in_url(self.web_host)}:{self.web_port}"

    @property
    def public(self) -> PublicAddress | None:
        """Return the parts of `public_url`, or None."""
        return PublicAddress(self.public_url) if self.public_url else None

    @property
    def proxies(self) -> tuple[str, ...]:
        """Return the networks whose X-Forwarded-... headers are believed."""
        if self.trusted_proxies is not None:
            return tuple(self.trusted_proxies)
        return LOOPBACK_NETWORKS if self.public_url else ()

    @property
    def hosts(self) -> list[str]:
        """Return the values of `Host` that are answered, without port: Django's ALLOWED_HOSTS."""
        public = [self.public.host] if self.public else []
        return ["localhost", "127.0.0.1", "[::1]", *names_in_requests(self.web_host), *public, *self.allowed_hosts]

    @property
    def folder(self) -> HomeFolder:
        return HomeFolder(Path(os.path.realpath(ROOT / self.home)))  # `Path.resolve` raises if links lead in a circle

    @property
    def journal_folder(self) -> Path:
        """Return the folder below which each journal has its own folder."""
        return ROOT / self.journal if self.journal else self.folder.root / "journal"

    @property
    def job_root(self) -> Path:
        """Return the folder of spill files."""
        return ROOT / self.zmr.job_root if self.zmr.job_root else self.folder.root / "zmr"

    @property
    def local_workers(self) -> int:
        """Return the number of worker processes that `up` starts."""
        return self.zmr.local_workers or os.cpu_count() or 1

    def mongo_address(self) -> str:
        """Return the connection string of the MongoDB in use: `mongo_uri`, else that of the running local mongod.

        Raise `HomeError` if there is neither. Reads it again at each call, since a local mongod can change its port.
        """
        return self.mongo_uri or self.folder.mongo_uri()

    def connect_address(self, key: str) -> str:
        """Return the address at which a client on this machine reaches the socket with dotted `key`.

        Port 0 is looked up in `run/addresses.json`; an address that means every interface becomes loopback.
        Raise `HomeError` if a freely chosen port is not recorded, because the process does not run.
        """
        configured = {"zmr.req_uri": self.zmr.req_uri, "zmr.worker_uri": self.zmr.worker_uri}.get(key)
        if configured and not TCP_NO_PORT.match(configured):
            return configured
        key = {"zmr.req_uri": "zmr.req_bind", "zmr.worker_uri": "zmr.worker_bind"}.get(key, key)
        bound = self.sockets()[key]
        if bound.endswith(":0"):
            bound = self.folder.address(key)
        match = TCP.match(bound)
        return f"tcp://{in_url(reachable(match[1]).strip('[]'))}:{match[2]}" if match else bound

    def running_address(self, key: str) -> str:
        """Return `connect_address(key)`, or an empty text if no process on this machine has recorded that socket."""
        try:
            self.folder.address(key)
        except HomeError:
            return ""
        return self.connect_address(key)

    def client_keys(self) -> ClientKeys | None:
        """Return the keys with which this installation's own processes send events and receive notices, if any.

        Reads the file at each call. Raise `KeyFileError`.
        """
        path = self.folder.client_keys / "own.curve"
        if not path.exists():
            return None
        from ingest.transport.client_keys import ClientKeys  # imports ZeroMQ, which most commands do not need

        return ClientKeys.load(path)

    def ingest_settings(self) -> IngestSettings:
        """Return the settings of the ingester. Raise `KeyFileError`."""
        from ingest.transport.server_keys import load_server_keys  # imports ZeroMQ, which most commands do not need

        return IngestSettings(
            bson_bind_address=self.bson_bind_address,
            json_bind_address=self.json_bind_address,
            ack_bind_address=self.ack_bind_address,
            publish_bind_address=self.publish_bind_address,
            mongo_address=self.mongo_address,
            mongo_database=self.mongo_database,
            journal=JournalSettings(
                folder=self.journal_folder,
                segment_bytes=self.journal_segment_bytes,
                max_bytes=self.journal_max_bytes,
                sync=self.journal_sync,
            ),
            curve=load_server_keys(self.folder.keys / "ingest.curve", self.folder.client_keys),
            backdoor=self.backdoor,
        )

    def engine_settings(self, task_modules: tuple[str, ...]) -> EngineSettings:
        """Return the settings of the map-reduce engine; `task_modules` are the modules whose functions jobs may use."""
        from mapreduce.wire.curve import load_keys  # imports ZeroMQ, which most commands do not need

        worker_interface = "tcp://127.0.0.1"
        if self.zmr.worker_uri and TCP_NO_PORT.match(self.zmr.worker_uri):
            worker_interface = self.zmr.worker_uri
        return EngineSettings(
            engine=self.zmr.engine,
            req_bind=self.zmr.req_bind,
            worker_bind=self.zmr.worker_bind,
            req_uri=lambda: self.connect_address("zmr.req_uri"),
            worker_uri=lambda: self.connect_address("zmr.worker_uri"),
            worker_interface=worker_interface,
            src_port=self.zmr.src_port,
            mongo_address=self.mongo_address,
            mongo_database=self.mongo_database,
            job_root=self.job_root,
            local_workers=self.local_workers,
            processes_per_worker=self.zmr.processes_per_worker or os.cpu_count() or 1,
            reduce_count=self.zmr.reduce_count,
            map_job_size=self.zmr.map_job_size,
            outstanding_maps=self.zmr.outstanding_maps,
            outstanding_reduces=self.zmr.outstanding_reduces,
            compress=self.zmr.compress,
            spill_bytes=self.zmr.spill_bytes,
            worker_memory_bytes=self.zmr.worker_memory_bytes,
            allowed_modules=task_modules,
            allow_source=self.zmr.allow_source,
            curve=load_keys(self.folder.keys / "zmr.curve"),
            worker_setup="zarkov_site.processes.process:set_up_django",
        )
