"""The sections of the configuration: their base class, and the keys below `zmr:`, `metrics:` and `notify:`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from zarkov_site.config.listen_address import Address, Interface, WorkerAddress, in_url
from zarkov_site.config.server_address import SmtpUrl, WebUrl
from zarkov_site.config.value import Addresses, Folder, Port, Sender, Size

_NUMBERS = (int, float, int | None)  # types of fields
# Of text, as it is written in the file too. A whole number may have a unit, which the field's type checks.
_WHOLE = re.compile(r"\s*[+-]?(0|[1-9][0-9]*)(\s*[A-Za-z]+)?\s*\Z")
_DECIMAL = re.compile(r"\s*[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*\Z")
_BOOLEANS = frozenset({"true", "false", "yes", "no", "on"})  # `off` is a value of journal_sync


class Section(BaseModel):
    """A group of keys: unknown keys are errors, values are checked, and the object is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @field_validator("*", mode="before")
    @classmethod
    def _reject_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Raise `ValueError` for a boolean in a field of another type: YAML's true and yes would be read as 1."""
        word = value.strip().lower() if isinstance(value, str) else ""
        if (isinstance(value, bool) or word in _BOOLEANS) and cls._type_of(info) is not bool:
            raise ValueError("it must not be a boolean; YAML reads yes, no, on and off as one unless quotes are around")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _reject_doubtful_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Raise `ValueError` for numbers such as `1_000`, `080` and `8081.0`, which programs read in different ways."""
        kind = cls._type_of(info)
        if kind not in _NUMBERS or not isinstance(value, str | float):
            return value
        form = _DECIMAL if kind is float else _WHOLE
        if not form.match(str(value)):
            raise ValueError("a number is written with digits, without leading zeros and other marks, such as 1000")
        return value

    @classmethod
    def _type_of(cls, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        return None if field is None else field.annotation


class ZmrConfig(Section):
    """Keys below `zmr:`, the map-reduce engine."""

    engine: Literal["zmq", "inline"] = Field("zmq", description="What runs the jobs.")
    req_bind: Address = Field("tcp://127.0.0.1:5555", description="Where the router accepts requests.")
    req_uri: Address | None = Field(None, description="Where clients find the router; by default where `req_bind` is.")
    worker_bind: Address = Field("tcp://127.0.0.1:5556", description="Where the router accepts workers.")
    worker_uri: WorkerAddress | None = Field(
        None,
        description="Where workers find the router; without a port: the interface that the workers' own sockets bind.",
    )
    local_workers: int | None = Field(
        None, ge=1, description="Worker processes that `up` starts; none = number of CPUs."
    )
    processes_per_worker: int = Field(0, ge=0, description="Worker processes of one `runworker`; 0 = number of CPUs.")
    job_root: Folder | None = Field(None, description="Folder of spill files; by default `zmr` in `home`.")
    reduce_count: int = Field(32, ge=1, le=4096, description="Reduce partitions of a job.")
    map_job_size: int = Field(10_000, ge=1, description="Documents per split.")
    outstanding_maps: int = Field(16, ge=1, description="Splits of one job handed out at once.")
    outstanding_reduces: int = Field(16, ge=1, description="Reduce partitions of one job handed out at once.")
    compress: int = Field(0, ge=0, le=9, description="zlib level of spill files; 0 = none.")
    src_port: Port = Field(0, description="Port on which a worker serves its map output; 0 = chosen freely.")
    sink_port: Port = Field(0, description="Of 2011; read and, unless 0, ignored with a warning.")
    allow_source: bool = Field(
        False,
        description="Whether a request may carry Python source text; for trusted networks only.",
    )
    worker_memory_bytes: Size = Field(
        256 * 2**20, description="Memory above which a worker process ends after its split."
    )
    spill_bytes: Size = Field(32 * 2**20, description="Map output held in memory before a sorted run is spilled.")
    map_page_size: int | None = Field(None, description="Of 2011; read and ignored with a warning.")
    request_greenlets: int | None = Field(None, description="Of 2011; read and ignored with a warning.")


class MetricsConfig(Section):
    """Keys below `metrics:`, the broker of timers, counters and gauges."""

    port: Annotated[int, Field(ge=0, le=65534)] = Field(
        5550, description="Port for publishers; backends use the next one. 0 = both are chosen freely."
    )
    host: Interface = Field("127.0.0.1", description="Interface of the broker.")
    own_interval_s: int = Field(
        10,
        ge=0,
        le=60,
        description="How often Zarkov's own processes send what they measure; 0 = they measure nothing.",
    )

    def address(self, place: int) -> str:
        """Return the address at which the broker binds its socket for publishers (0) or backends (1)."""
        return f"tcp://{in_url(self.host)}:{self.port + place if self.port else 0}"


class NotifyConfig(Section):
    """Keys below `notify:`, the alerts sent if an aggregate fails, lags or is wrong."""

    email: Addresses = Field([], description="Mail addresses that receive alerts; none = no mail.")
    email_from: Sender = Field("zarkov@localhost", description="Sender of these mails.")
    smtp_url: SmtpUrl = Field(
        "smtp://127.0.0.1:25", description="Mail server, such as smtp://user:password@host:587 or smtps://host."
    )
    webhook: WebUrl | None = Field(None, description="Address to which each alert is posted as JSON; none = no calls.")
    lag_s: float = Field(
        300, ge=0, description="Seconds that a realtime aggregate may lag before an alert; 0 = no such alert."
    )
