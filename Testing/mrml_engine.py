"""A MRML scene whose session lives in an engine process, for benchmarks and pictures on real cases."""

from __future__ import annotations

from typing import Any

from mrml_tools import Bench, ThreadedScheduler
from sofa_engine.types import Modality
from sofa_service.launcher import LocalEngine


class EngineBench(Bench):
    """A `Bench` on the real way: another process, another thread."""

    def __init__(
        self, scene: Any, nodes: dict[Modality, Any], engine: LocalEngine, scheduler: ThreadedScheduler
    ) -> None:
        super().__init__(scene, nodes, lambda _case: None, scheduler=scheduler)
        self._engine = engine
        self.controller._openSession = self.openSession

    def openSession(self, case: Any, _progress: Any, cancel: Any) -> Any:
        return self._engine.client().open(case, cancel=cancel)

    def segment(self) -> None:
        """Run the first pass and wait until everything about it is known."""
        self.controller.segment()
        self.scheduler.waitFor(lambda: self.failures or self.controller.insights is not None)
        assert self.failures == []

    def run(self) -> None:
        """Wait until nothing is under way."""
        self.scheduler.waitFor(lambda: not self.busy)
        assert self.failures == []

    @property
    def busy(self) -> bool:
        jobs, interaction = self.controller._jobs, self.controller._interaction
        return bool(jobs._running or jobs._waiting or (interaction is not None and interaction._timers))

    def close(self) -> None:
        self.controller.close()
        self.scheduler.worker.stop()
