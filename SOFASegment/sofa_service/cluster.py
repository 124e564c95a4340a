"""Cases spread over a Ray cluster (the optional extra `cluster`): Ray places them and repeats those of a lost worker.

Cases are read where the command runs and travel through Ray's object store, so the nodes need no shared folder; results
travel back the same way. This code and the checkpoint are shipped along; the nodes need the dependencies alone.
"""

from __future__ import annotations

import hashlib
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import ray

import sofa_engine
import sofa_service
from sofa_engine.api import Boxes, ModelInfo, Session
from sofa_engine.case import Case
from sofa_engine.errors import InputError, OutOfMemoryError, SofaError
from sofa_engine.geometry import Geometry
from sofa_engine.types import LabelScheme, Modality, SliceConfidence, SubRegion
from sofa_service.config import ServeConfig
from sofa_service.errors import EngineLostError

#: How often a case is tried again on another worker when its worker dies.
_RETRIES = 3
_LOOKS = 10


@dataclass(frozen=True)
class Finished:
    """What a session had to say at its end; answers like one, but takes no more work.

    Attributes:
        geometry: grid of the arrays.
        modalities: sequences that were present.
        model: which model answered.
        warnings: sentences for the user.
        seconds: how long the worker took.
    """

    geometry: Geometry
    modalities: tuple[Modality, ...]
    model: ModelInfo
    warnings: tuple[str, ...]
    seconds: float
    _boxes: Boxes
    _first_boxes: Boxes
    _labels: np.ndarray
    _probabilities: np.ndarray | None
    _uncertain: tuple[SliceConfidence, ...]
    _attention: Mapping[SubRegion, Mapping[Modality, float]]
    _volumes_ml: Mapping[str, float]

    @staticmethod
    def of(session: Session, seconds: float, *, probabilities: bool) -> Finished:
        """Ask a session everything."""
        return Finished(
            session.geometry,
            session.modalities,
            session.model,
            session.warnings,
            seconds,
            dict(session.boxes()),
            dict(session.first_boxes()),
            session.labels(),
            session.probabilities() if probabilities else None,
            session.uncertain_slices(_LOOKS),
            session.attention(),
            session.volumes_ml(),
        )

    def boxes(self) -> Boxes:
        """See `Session.boxes`."""
        return self._boxes

    def first_boxes(self) -> Boxes:
        """See `Session.first_boxes`."""
        return self._first_boxes

    def labels(self, scheme: LabelScheme = LabelScheme.BRATS2020) -> np.ndarray:
        """See `Session.labels`."""
        labels = self._labels.copy()
        for sub_region in SubRegion:
            labels[self._labels == sub_region.label] = scheme.value_of(sub_region)
        return labels

    def probabilities(self) -> np.ndarray:
        """See `Session.probabilities`; asked for when the case was sent."""
        if self._probabilities is None:
            raise InputError("The probabilities were not asked for when the case was sent to the cluster.")
        return self._probabilities

    def uncertain_slices(self, count: int = _LOOKS) -> tuple[SliceConfidence, ...]:
        """See `Session.uncertain_slices`; at most ten."""
        return self._uncertain[:count]

    def attention(self) -> Mapping[SubRegion, Mapping[Modality, float]]:
        """See `Session.attention`."""
        return self._attention

    def volumes_ml(self) -> Mapping[str, float]:
        """See `Session.volumes_ml`."""
        return self._volumes_ml

    def close(self) -> None:
        """See `Session.close`; the worker has freed its memory already."""


@dataclass(frozen=True)
class Request:
    """One case for the cluster.

    Attributes:
        name: what comes back with its result.
        case: on the model's working grid.
        boxes: replace the first pass's boxes of the sub-regions that they mention.
    """

    name: str
    case: Case
    boxes: Boxes


class Cluster:
    """A connection to a Ray cluster.

    Example:
        >>> with Cluster("ray://head:10001", weights=path) as cluster:
        ...     for name, result in cluster.segment(requests):
        ...         save(name, result)

    Attributes:
        slots: how many cases the cluster works on at once.
    """

    def __init__(
        self,
        address: str,
        *,
        weights: Path | None = None,
        device: str = "auto",
        factory: str | None = None,
        probabilities: bool = False,
    ) -> None:
        """Connect.

        Args:
            address: "auto", "host:6379", "ray://host:10001", or "local" for a cluster of this computer alone.
            weights: checkpoint, sent to the workers.
            device: what a worker computes on; "auto" takes a GPU per case where the cluster has any.
            factory: see `ServeConfig.factory`.
            probabilities: whether results bring them along.

        Raises:
            EngineLostError: nothing answers there.
            InputError: the weights cannot be read.
        """
        packages = [str(Path(package.__file__).parent) for package in (sofa_engine, sofa_service) if package.__file__]
        _knock(address)
        try:
            ray.init(
                address=address,
                runtime_env={"py_modules": packages},
                log_to_driver=False,
                logging_level="error",
                ignore_reinit_error=True,
            )
        except (ConnectionError, RuntimeError, ValueError) as exc:
            raise EngineLostError(f"No Ray cluster answers at {address}; start one with `ray start --head`.") from exc
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if device != "cpu" else 0
        self.slots = max(1, gpus or int(resources.get("CPU", 1)))
        # A case on a CPU uses the cores that Ray gives it; two cases on one GPU would fight for its memory.
        self._task = ray.remote(_segment).options(
            max_retries=_RETRIES, num_gpus=1 if gpus else 0, num_cpus=1, retry_exceptions=False
        )
        self._factory = factory or ServeConfig.model_fields["factory"].default
        self._device = device
        self._probabilities = probabilities
        self._weights = None if weights is None else ray.put(_read(weights))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        ray.shutdown()

    def segment(self, requests: Iterable[Request]) -> Iterator[tuple[str, Finished | SofaError]]:
        """Yield every case's result or error as it comes, in any order.

        Requests are taken from their iterable as workers become free, so that a large cohort is never in memory.
        """
        pending: dict[Any, str] = {}
        source = iter(requests)
        exhausted = False
        try:
            while pending or not exhausted:
                while not exhausted and len(pending) <= self.slots:
                    request = next(source, None)
                    if request is None:
                        exhausted = True
                    else:
                        pending[self._submit(request)] = request.name
                if pending:
                    (ready, *_), _ = ray.wait(list(pending))
                    yield pending.pop(ready), _result(ready)
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)

    def _submit(self, request: Request) -> Any:
        return self._task.remote(
            request.case, dict(request.boxes), self._factory, self._weights, self._device, self._probabilities
        )


def _knock(address: str) -> None:
    """Find out in seconds what takes Ray minutes: whether anything listens there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as exc:
        raise EngineLostError(f"No Ray cluster answers at {address}; start one with `ray start --head`.") from exc


def _segment(
    case: Case, boxes: Boxes, factory: str, weights: bytes | None, device: str, probabilities: bool
) -> Finished | SofaError:
    """Segment one case, on a worker of the cluster; what is wrong with the case is an answer and no failure."""
    start = time.perf_counter()
    config = ServeConfig(factory=factory, device=device, weights=None if weights is None else _kept(weights))
    try:
        session = config.load_factory()(case)
        try:
            session.first_pass()
            for sub_region, replaced in boxes.items():
                for _ in session.refine(sub_region, replaced):
                    pass
            return Finished.of(session, time.perf_counter() - start, probabilities=probabilities)
        finally:
            session.close()
    except SofaError as error:
        return error
    except MemoryError:
        return OutOfMemoryError("The worker ran out of memory; give the cluster's workers more.")


def _result(reference: Any) -> Finished | SofaError:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return SofaError(f"The worker failed unexpectedly: {error.cause!r}.")
    except ray.exceptions.RayError as error:
        return EngineLostError(f"The case was lost with its worker {_RETRIES + 1} times ({type(error).__name__}).")


def _read(weights: Path) -> bytes:
    try:
        return weights.read_bytes()
    except OSError as exc:
        raise InputError(f"The checkpoint {weights} cannot be read: {exc.strerror}.") from exc


def _kept(weights: bytes) -> Path:
    """Write a checkpoint once per node and return where."""
    # What reads a checkpoint goes by its ending: safetensors begin with eight bytes of length, then JSON.
    ending = ".safetensors" if weights[8:9] == b"{" else ".pth"
    path = Path(tempfile.gettempdir()) / f"sofa-{hashlib.sha256(weights).hexdigest()}{ending}"
    if not path.is_file():
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            part.write(weights)
        Path(part.name).replace(path)
    return path
