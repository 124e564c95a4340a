"""What the scene remembers of a training: parameters and node references of one vtkMRMLScriptedModuleNode."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import slicer

from SOFASegmentLib.scene_state import SceneState

MODULE_NAME = "SOFATraining"

#: The segmentation that is the truth of a case to add; the role of an equally named parameterNodeWrapper field.
TRUTH = "truth"
LOSS_TABLE, LOSS_CHART, LOSS_SERIES = "SOFA.lossTable", "SOFA.lossChart", "SOFA.lossSeries"
DICE_TABLE, DICE_CHART, DICE_SERIES = "SOFA.diceTable", "SOFA.diceChart", "SOFA.diceSeries"
PREVIEW_VOLUME, PREVIEW_TRUTH, PREVIEW_FOUND = "SOFA.previewVolume", "SOFA.previewTruth", "SOFA.previewFound"
DEFAULT_EPOCHS = 50


class Part(Enum):
    """Which weights move; the names are what the scene stores, the values those of the training's configuration."""

    DECODER = "decoder"
    ALL = "all"


class TrainingState(SceneState):
    """The parameter node, in the words of training. Two wrappers of one node always agree: neither keeps anything."""

    @staticmethod
    def fromScene(scene: Any) -> TrainingState:
        """Return the state that the scene holds, creating it where there is none."""
        node = scene.GetSingletonNode(MODULE_NAME, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(MODULE_NAME)
            node.SetName(MODULE_NAME)
            node = scene.AddNode(node)
        node.SetAttribute("ModuleName", MODULE_NAME)
        return TrainingState(node)

    @property
    def dataset(self) -> Path | None:
        """Folder of cases, or a CSV that lists them."""
        return self._path("dataset")

    @dataset.setter
    def dataset(self, path: Path | None) -> None:
        self._setPath("dataset", path)

    @property
    def startWeights(self) -> Path | None:
        """Checkpoint that the training begins with; None is the one that comes with the extension."""
        return self._path("startWeights")

    @startWeights.setter
    def startWeights(self, path: Path | None) -> None:
        self._setPath("startWeights", path)

    @property
    def configuration(self) -> Path | None:
        """TOML file of whoever wants to decide more than the panel asks; None is the shipped configuration."""
        return self._path("configuration")

    @configuration.setter
    def configuration(self, path: Path | None) -> None:
        self._setPath("configuration", path)

    @property
    def results(self) -> Path | None:
        """Folder of prepared cases and runs; beside the dataset where nothing else is chosen, None without both."""
        chosen, dataset = self._path("results"), self.dataset
        if chosen is not None or dataset is None:
            return chosen
        name = dataset.stem if dataset.suffix.lower() == ".csv" else dataset.name
        return dataset.parent / f"{name}-training"

    @results.setter
    def results(self, path: Path | None) -> None:
        self._setPath("results", path)

    @property
    def runFolder(self) -> Path | None:
        """Folder of the run that is shown."""
        return self._path("runFolder")

    @runFolder.setter
    def runFolder(self, path: Path | None) -> None:
        self._setPath("runFolder", path)

    @property
    def part(self) -> Part:
        """Which weights move."""
        name = self.node.GetParameter("part") or Part.DECODER.name
        return Part[name] if name in Part.__members__ else Part.DECODER

    @part.setter
    def part(self, part: Part) -> None:
        self.node.SetParameter("part", part.name)

    @property
    def epochs(self) -> int:
        """How many passes over the cases."""
        text = self.node.GetParameter("epochs") or ""
        return int(text) if text.isdecimal() and int(text) > 0 else DEFAULT_EPOCHS

    @epochs.setter
    def epochs(self, epochs: int) -> None:
        self.node.SetParameter("epochs", str(epochs))

    def _path(self, name: str) -> Path | None:
        text = (self.node.GetParameter(name) or "").strip()
        return Path(text) if text else None

    def _setPath(self, name: str, path: Path | None) -> None:
        text = "" if path is None else str(path)
        if text != (self.node.GetParameter(name) or ""):
            self.node.SetParameter(name, text)
