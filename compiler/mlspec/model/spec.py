"""What the user wrote, typed and checked: the result of `validate`. Nothing is decided here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mlspec.model.frozen import Frozen
from mlspec.model.signature import Batching, Tensor

Platform = Literal["macos", "linux"]
Accelerator = Literal["metal", "cpu", "cuda12", "cuda13"]
Arch = Literal["arm64", "amd64"]
Task = Literal["generate", "predict", "embed"]
Endpoint = Literal["predict", "stream", "batch", "chat", "completions", "embeddings"]
FinishReason = Literal["stop", "length", "tool_calls"]
Prefer = Literal["balanced", "quality", "concurrency", "context"]
PythonVersion = Literal["3.11", "3.12", "3.13"]


class Source(Frozen):
    """Where a model's files come from: exactly one of `path`, `hf` and `store`.

    `path` is relative to the project, or to the declared root `root`. `revision` is a full commit hash of `hf`.
    `store` is `name:version` in BentoML's model store.
    """

    path: str | None = None
    root: str | None = None
    hf: str | None = None
    revision: str | None = None
    store: str | None = None

    def key(self) -> dict[str, str]:
        """The source as the spec gives it, without what is unset: safe to write down, never an absolute path."""
        given = {name: getattr(self, name) for name in Source.model_fields}
        return {name: value for name, value in given.items() if value is not None}


class Metadata(Frozen):
    name: str
    project: str
    description: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class Limits(Frozen):
    """`max_tokens` generated for a request, `timeout_s` for an answer, `max_body_bytes` of a request, `max_batch`
    inputs of a batch or choices of a request, `drain_s` for what was accepted once the service is told to end.
    """

    max_tokens: int = 512
    timeout_s: float = 120
    max_body_bytes: int = 1_048_576
    queue: int = 64
    max_batch: int = 64
    drain_s: float = 30


class EnvironmentValue(Frozen):
    """A variable of the service's environment; without `value` it must be set where the service starts."""

    name: str
    value: str | None = None


class Auth(Frozen):
    """The variable that holds the API key, or several separated by commas; never the key."""

    api_key_env: str


class Cors(Frozen):
    """The origins whose pages may call the service from a browser; "*" alone is all."""

    origins: tuple[str, ...]


class ResponseCache(Frozen):
    """Kept answers of deterministic requests; `max_mb` is in 2^20 bytes."""

    store: Literal["memory", "file", "off"] = "memory"
    entries: int = 512
    max_mb: int = 64


class Logging(Frozen):
    """`prompts`: whether prompts and answers may be logged."""

    format: Literal["text", "json"] = "text"
    prompts: bool = False


class Tracing(Frozen):
    """OpenTelemetry traces; where they go is the environment's affair."""

    exporter: Literal["otlp"] = "otlp"
    sample_rate: float = 1.0


class ServiceSpec(Frozen):
    """`endpoints` None: all that the model's task has. `auth`, `cors` and `tracing` None: off.

    `batching` and all below it are for models of tensors: `inputs` and `outputs` are what requests and answers hold,
    None where that follows from the model and the steps `pre` and `post`.
    """

    backend: str = "bentoml"
    endpoints: tuple[Endpoint, ...] | None = None
    concurrency: int | Literal["auto"] = "auto"
    prefer: Prefer = "balanced"
    batching: Batching | Literal["auto", "off"] = "auto"
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None
    pre: tuple[dict[str, Any], ...] = ()
    post: tuple[dict[str, Any], ...] = ()
    limits: Limits = Field(default_factory=Limits.model_construct)
    env: tuple[EnvironmentValue, ...] = ()
    auth: Auth | None = None
    cors: Cors | None = None
    response_cache: ResponseCache = Field(default_factory=ResponseCache.model_construct)
    logging: Logging = Field(default_factory=Logging.model_construct)
    tracing: Tracing | None = None


class MachineSpec(Frozen):
    """A target's computer, as declared: by a `profile`, a `product`, a `chip` with its memory, or (Linux) memory alone.

    1 GB is 2^30 bytes, as Apple and `free` count.
    """

    product: str | None = None
    profile: str | None = None
    chip: str | None = None
    memory_gb: float | None = None
    gpu_cores: int | None = None
    model: str | None = None
    macos: str | None = None
    cpus: int | None = None
    gpu_memory_gb: float | None = None
    reserve_gb: float = 0


class TargetSpec(Frozen):
    """`machine` as a text is `auto`, the computer that compiles, or the name of a product."""

    name: str
    platform: Platform = "macos"
    accelerator: Accelerator | None = None
    arch: Arch | None = None
    python: PythonVersion = "3.11"
    machine: MachineSpec | str | None = None


class Expectation(Frozen):
    """What a test wants of an answer: each key that is set must hold."""

    status: int = 200
    contains: str | None = None
    equals: Any = None
    finish_reason: FinishReason | None = None
    max_latency_s: float | None = None


class TestCase(Frozen):
    """One request to the running service: the body of `POST /predict` and what must come back."""

    __test__ = False

    name: str = ""
    predict: dict[str, Any]
    expect: Expectation = Field(default_factory=Expectation.model_construct)


class Spec(Frozen):
    """A whole spec. `model` is the runner's own type: see `Runner.model_type`. `task` is None if it isn't given."""

    metadata: Metadata
    runner: str
    task: Task | None = None
    model: Any
    service: ServiceSpec = Field(default_factory=ServiceSpec.model_construct)
    targets: tuple[TargetSpec, ...] = (TargetSpec.model_construct(name="mac"),)
    tests: tuple[TestCase, ...] = ()
