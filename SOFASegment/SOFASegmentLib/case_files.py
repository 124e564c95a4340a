"""Loading a case from a folder, through the readers of the scene itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofa_engine.errors import InputError
from sofa_engine.naming import modality_of
from sofa_engine.types import Modality
from SOFASegmentLib.i18n import tr as _

if TYPE_CHECKING:
    from sofa_engine.dicom import DicomSeries

#: What a dropped file must end in to be looked at; `discover` knows more, but pulls in packages to be installed first.
_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
#: More volumes than this in one folder are not one patient's sequences.
_MOST_VOLUMES = 16


def loadCase(scene: Any, folder: Path) -> tuple[dict[Modality, Any], tuple[str, ...]]:
    """Load the sequences that a folder holds as volume nodes.

    Args:
        scene: where to.
        folder: with NIfTI, NRRD or MetaImage files, or DICOM series, named by sequence.

    Returns:
        A new volume node per sequence, and what was matched and left out, in words for a person.

    Raises:
        InputError: the folder holds no volume, or a file that cannot be read. No node stays.
        UnmatchedError: no name says a sequence, or two candidates claim one; `loadVolumes` loads them all.
    """
    # What finds and checks files pulls in nibabel, which is only needed here.
    from sofa_engine.discovery import discover

    found = discover(Path(folder))
    return dict(zip(found.sources, _loadAll(scene, found.sources.values()), strict=True)), found.notes


def loadVolumes(scene: Any, folder: Path) -> list[Any]:
    """Load every volume of a folder, so that the user can say which sequence each is.

    Raises:
        InputError: more volumes than one patient's, or a file that cannot be read. No node stays.
    """
    from sofa_engine.discovery import volumes_in

    found = volumes_in(Path(folder))
    if len(found) > _MOST_VOLUMES:
        raise InputError(
            _("There are {count} volumes; choose a folder with the sequences of one patient alone.").format(
                count=len(found)
            )
        )
    return _loadAll(scene, found)


def folderOfDrop(paths: Sequence[Path]) -> Path:
    """Return the folder that dropped files or a dropped folder mean.

    Raises:
        InputError: nothing was dropped, or files of different folders.
    """
    folders = {path if path.is_dir() else path.parent for path in map(Path, paths)}
    if len(folders) != 1:
        raise InputError(_("Drop one folder, or files of one folder: the four sequences of one patient."))
    return folders.pop()


def looksLikeCase(paths: Sequence[Path]) -> bool:
    """Whether dropped files, or those in a dropped folder, name two sequences or more; nothing is opened."""
    paths = [Path(path) for path in paths]
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        return False
    files = folders[0].iterdir() if folders else paths
    names = (path.name.lower() for path in files)
    return len({modality_of(name) for name in names if name.endswith(_SUFFIXES)} - {None}) > 1


def _loadAll(scene: Any, sources: Iterable[Path | DicomSeries]) -> list[Any]:
    nodes: list[Any] = []
    try:
        for source in sources:
            files = [source] if isinstance(source, Path) else list(source.files)
            name = _stem(source) if isinstance(source, Path) else source.description or source.folder.name
            nodes.append(_load(scene, files, name))
    except InputError:
        for node in nodes:
            scene.RemoveNode(node)
        raise
    return nodes


def _load(scene: Any, files: list[Path], name: str) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    storage.SetFileName(str(files[0]))
    storage.ResetFileNameList()
    for file in files if len(files) > 1 else []:
        storage.AddFileName(str(file))
    storage.SetSingleFile(len(files) == 1)
    if not storage.ReadData(node) or node.GetImageData() is None:
        scene.RemoveNode(node)
        raise InputError(_("{file} cannot be read as an image; copy or export it again.").format(file=files[0]))
    node.CreateDefaultDisplayNodes()
    return node


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]
