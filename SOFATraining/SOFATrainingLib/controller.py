"""What a face commands and listens to: check, start, pause, resume, stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from sofa_engine.errors import InputError, SofaError
from sofa_engine.progress import Progress
from SOFASegmentLib.scheduler import Scheduler
from SOFASegmentLib.signals import Signal
from SOFATrainingLib import plan, views
from SOFATrainingLib.card import ResultCard, resultOf
from SOFATrainingLib.cases import CaseRow, usable
from SOFATrainingLib.curves import showCurves
from SOFATrainingLib.plan import Choices
from SOFATrainingLib.preview import Preview, showPreview
from SOFATrainingLib.run import Ending, Intent, News, TrainingRun, canShowRuns
from SOFATrainingLib.stages import watchChecking, watchPreparing
from SOFATrainingLib.state import TrainingState
from SOFATrainingLib.watch import Watch


class Phase(Enum):
    """What is going on."""

    IDLE = "idle"
    CHECKING = "checking"
    PREPARING = "preparing"
    TRAINING = "training"
    STOPPING = "stopping"
    PAUSED = "paused"
    FINISHED = "finished"


BUSY = frozenset({Phase.CHECKING, Phase.PREPARING, Phase.TRAINING, Phase.STOPPING})

_LAYOUT_MS = 200


class TrainingController:
    """Trains on a dataset in processes of its own and shows in the scene how it goes.

    A run belongs to the computer and not to the scene: it goes on when the scene is closed, and shows itself in the
    next one. All methods are called on the main thread and return at once; all signals are emitted there.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        """Wait for a scene.

        Args:
            scheduler: how to wait and how to leave the main thread.
        """
        self.phaseChanged, self.progressChanged, self.casesChanged = Signal(), Signal(), Signal()
        self.statusChanged, self.previewChanged = Signal(), Signal()
        self.warned, self.failed = Signal(), Signal()
        self.state: TrainingState | None = None
        self.phase = Phase.IDLE
        self._beforeChecking = Phase.IDLE
        self.progress: Progress | None = None
        self.rows: tuple[CaseRow, ...] = ()
        self.checkedDataset: Path | None = None
        self.run: TrainingRun | None = None
        self.preview: Preview | None = None
        self.result: ResultCard | None = None
        self._scheduler = scheduler
        self._watch: Watch | None = None
        self._sized: TrainingRun | None = None

    @property
    def busy(self) -> bool:
        """Whether a process runs for us."""
        return self.phase in BUSY

    @property
    def training(self) -> bool:
        """Whether ending Slicer now would interrupt a training."""
        return self.phase in (Phase.PREPARING, Phase.TRAINING, Phase.STOPPING)

    def follow(self, state: TrainingState | None) -> None:
        """Show the run in this scene from now on; None where the scene is closing."""
        self.state = state
        if state is None:
            return
        if self.run is not None and (self.busy or state.runFolder is None):
            state.runFolder = self.run.folder
            self._showAgain(self.run)
        elif not self.busy and state.runFolder is not None:
            self.openRun(state.runFolder, quietly=True)

    def check(self) -> None:
        """Look at the dataset; `casesChanged` brings what is in it and what is wrong with it."""
        self._attempt(lambda: self._check(plan.requireDataset(self._state), self._onlyChecked))

    def start(self) -> None:
        """Check the cases, prepare those that can be used, and train on them."""

        def begin() -> None:
            choices = Choices.of(self._state)
            self._check(choices.dataset, lambda: self._prepare(choices))

        self._attempt(begin)

    def pause(self) -> None:
        """End the process after its current iteration; memory is free then, and `resume` goes on bit for bit."""
        if self.phase is Phase.TRAINING and self.run is not None:
            self.run.ask(Intent.PAUSE)
            self._setPhase(Phase.STOPPING)

    def resume(self) -> None:
        """Go on with a paused, stopped or interrupted run; one that failed goes on with the settings that it needs."""
        if self.run is not None and self.resumable:
            run = self.run
            self._attempt(lambda: self._launch(run, plan.resumeArguments(run.folder, run.remedy or {})))

    @property
    def resumable(self) -> bool:
        """Whether there is an unfinished run to go on with."""
        return self.phase is Phase.PAUSED and self.run is not None and self.run.resumable

    def stop(self) -> None:
        """End what is running; what was learned so far stays, and is the result."""
        if self.phase in (Phase.TRAINING, Phase.STOPPING) and self.run is not None:
            self.run.ask(Intent.STOP)
            self._setPhase(Phase.STOPPING)
        elif self.phase is Phase.CHECKING:
            self._cancel()
            self._setPhase(self._beforeChecking)
        elif self.phase is Phase.PREPARING:
            self._cancel()
            self._setPhase(Phase.IDLE)
        elif self.phase is Phase.PAUSED:
            if self.run is not None:
                self._scheduler.runInBackground(self.run.forgetFeatures)
            self._setPhase(Phase.FINISHED if self.result is not None else Phase.IDLE)

    def openRun(self, folder: Path, *, quietly: bool = False) -> None:
        """Show a run of before; if its process still runs, follow it again. Needs what a training needs.

        Args:
            folder: of the run.
            quietly: whether to do nothing where it is none, or where packages are missing, which only a user who asks
                for something is asked to install.
        """
        if self.busy or (quietly and not canShowRuns()):
            return
        run = TrainingRun(folder)
        if not run.exists:
            if not quietly:
                self.failed.emit(f"{folder} holds no training run; choose a folder named run-….")
            return

        def found(alive: bool) -> None:
            if self.busy:
                return
            self.run, self.preview = run, None
            if self.state is not None:
                self.state.runFolder = folder
            if alive:
                self._setPhase(Phase.TRAINING)
                self._watchRun(run)
            else:
                self._showAgain(run)
                self._settle(run)

        self._scheduler.runInBackground(lambda: self._post(found, run.find()))

    def curvesShown(self) -> bool:
        """Whether the layout with the curves is shown."""
        return self.state is not None and views.curvesShown(self.state)

    def setCurvesShown(self, shown: bool) -> None:
        """Show curves and preview in the views, or what was there before."""
        if self.state is not None:
            views.setCurvesShown(self.state, shown)
        if shown:
            # Views of a new layout get their sizes after this function has returned.
            self._scheduler.callLater(_LAYOUT_MS, self._facePreview)

    def endWithSlicer(self) -> None:
        """End everything now, with a checkpoint if the run manages to write one; takes seconds.

        Slicer may stay open after all, where the user then does not want to lose the scene: the run is paused.
        """
        if self.run is not None and self.phase in (Phase.TRAINING, Phase.STOPPING):
            self._unwatch()
            self.run.endNow(seconds=10.0)
            self._settle(self.run)
        elif self.busy:
            self.stop()

    def close(self) -> None:
        """Listen to nothing any more; a training goes on. The controller cannot be used afterwards."""
        if self.phase in (Phase.CHECKING, Phase.PREPARING):
            self._cancel()
        self._unwatch()
        self.state = None

    @property
    def _state(self) -> TrainingState:
        if self.state is None:
            raise InputError("There is no scene; wait until it is open.")
        return self.state

    def _attempt(self, begin: Callable[[], None]) -> None:
        if self.busy:
            return
        try:
            begin()
        except SofaError as error:
            self.failed.emit(str(error))
            self._setPhase(self.phase)

    def _check(self, dataset: Path, then: Callable[[], None]) -> None:
        self._beforeChecking = self.phase

        def done(rows: tuple[CaseRow, ...], sentence: str) -> None:
            self.rows, self.checkedDataset = rows, dataset if rows else None
            self._setPhase(self._beforeChecking)
            self.casesChanged.emit(rows)
            if rows:
                then()
            else:
                self.failed.emit(sentence)

        self._watch = watchChecking(self._scheduler, dataset, self._setProgress, done)
        self._setPhase(Phase.CHECKING)
        self._setProgress(Progress("Checking cases", 0.0))

    def _onlyChecked(self) -> None:
        """Do nothing with checked cases but show them."""

    def _prepare(self, choices: Choices) -> None:
        rows = usable(self.rows)
        if not rows:
            self.failed.emit("No case can be used; the table says what is wrong with each.")
            return

        def done(ready: tuple[CaseRow, ...], sentence: str) -> None:
            self._setPhase(Phase.IDLE)
            if ready:
                self._attempt(lambda: self._begin(choices, ready))
            if sentence:
                (self.warned if ready else self.failed).emit(sentence)

        def begin() -> None:
            watch = watchPreparing(self._scheduler, choices, rows, self._setProgress, done)
            if watch is None:
                self._begin(choices, rows)
                return
            self._watch = watch
            self._setPhase(Phase.PREPARING)
            self._setProgress(Progress(f"Preparing {len(rows)} cases", 0.0))

        self._attempt(begin)

    def _begin(self, choices: Choices, rows: Sequence[CaseRow]) -> None:
        folder = choices.newRunFolder(datetime.now())
        arguments = plan.writeRun(choices, rows, folder)
        self.preview = None
        self._launch(TrainingRun(folder), arguments)

    def _launch(self, run: TrainingRun, arguments: Sequence[str]) -> None:
        run.launch(arguments)
        self.run, self.result = run, None
        if self.state is not None:
            self.state.runFolder = run.folder
        self._setPhase(Phase.TRAINING)
        self._setProgress(Progress("Starting", 0.0))
        self._watchRun(run)

    def _watchRun(self, run: TrainingRun) -> None:
        assert run.child is not None
        self._watch = Watch(self._scheduler, run.child, run.look, self._onNews, lambda: self._onEnded(run))

    def _onNews(self, news: News | None) -> None:
        if news is None or self.run is None:
            return
        if news.preview is not None:
            self.preview = news.preview
        if news.grew:
            self._setProgress(self.run.status.progress)
            self._saySize(self.run)
        if news.grew or news.preview is not None:
            self._showInScene(news.grew, news.preview)

    def _saySize(self, run: TrainingRun) -> None:
        """Say once how much of the disk a run takes while it goes on, where that is much."""
        size = run.status.facts.get("features_gb")
        if size and self._sized is not run:
            self._sized = run
            self.warned.emit(f"The training keeps up to {size:.2g} GB in {run.folder} until it has ended.")

    def _onEnded(self, run: TrainingRun) -> None:
        ending, sentence = run.ending()
        if ending is Ending.FAILED:
            settings = ", ".join(f"{key} {value}" for key, value in (run.remedy or {}).items())
            hint = f" Resume goes on from the checkpoint with {settings}." if settings and run.resumable else ""
            self.failed.emit(f"{sentence}{hint}")
        elif ending is Ending.LOST:
            why = f": {sentence.rstrip('.')}." if sentence else "; it was killed, perhaps for lack of memory."
            hint = " Resume goes on from its last checkpoint." if run.resumable else ""
            self.failed.emit(f"The training ended unexpectedly{why}{hint}")
        self._settle(run)

    def _settle(self, run: TrainingRun) -> None:
        """Say what is left of a run that is not running."""
        self.result = resultOf(run.folder)
        ended = run.status.ended
        complete = ended is not None and not ended.get("failed") and ended.get("reason") != "stopped"
        stopped = run.intent is Intent.STOP and self.result is not None
        if complete or stopped:
            self._scheduler.runInBackground(run.forgetFeatures)
            self._setPhase(Phase.FINISHED)
        else:
            self._setPhase(Phase.PAUSED if run.resumable else Phase.IDLE)

    def _showAgain(self, run: TrainingRun) -> None:
        """Put everything that is known of a run into the scene."""
        run.showPreviewAgain()
        if self.preview is None:
            self._scheduler.runInBackground(lambda: self._post(self._onNews, run.look()))
        self._showInScene(True, self.preview)

    def _showInScene(self, grew: bool, preview: Preview | None) -> None:
        if self.state is None or self.state.scene is None or self.run is None:
            return
        if grew:
            showCurves(self.state, self.run.status)
            self.statusChanged.emit(self.run.status)
        if preview is not None:
            showPreview(self.state, preview)
            self.previewChanged.emit(preview)
        views.connectViews(self.state)

    def _facePreview(self) -> None:
        if self.curvesShown():
            views.facePreview(self.state)

    def _cancel(self) -> None:
        if self._watch is not None:
            self._watch.child.end()
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _post(self, function: Callable[[Any], None], value: Any) -> None:
        self._scheduler.post(lambda: function(value))

    def _setProgress(self, progress: Progress) -> None:
        self.progress = progress
        self.progressChanged.emit(progress)

    def _setPhase(self, phase: Phase) -> None:
        self.phase = phase
        if phase not in BUSY:
            self.progress = None
        self.phaseChanged.emit(phase)
