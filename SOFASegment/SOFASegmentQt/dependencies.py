"""Installs the Python packages that the engine needs, when the user first asks for a segmentation.

PyTorch comes through Slicer's PyTorch extension alone, which picks the build for the computer's graphics card.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from sofa_engine.errors import SofaError

#: Packages that pip must leave as PyTorch's extension installed them.
_TORCH = ("torch", "torchvision")


class DependencyError(SofaError):
    """A package is missing and was not installed."""


def ensureDependencies(requirementFiles: list[Path], *, withTorch: bool) -> None:
    """Install what is missing, after asking the user.

    Args:
        requirementFiles: files of requirements, one a line.
        withTorch: whether the engine runs on this computer.

    Raises:
        DependencyError: the user declined, or an installation failed.
    """
    if withTorch and not isInstalled("torch") and not slicer.app.testingEnabled():
        _installTorch()
    lines = [line for path in requirementFiles for line in path.read_text(encoding="utf-8").splitlines()]
    requirements = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        pinned = [f"{name}=={importlib.metadata.version(name)}\n" for name in _TORCH if isInstalled(name)]
        constraints.write_text("".join(pinned), encoding="utf-8")
        try:
            _installPackages(requirements, constraints)
        except DependencyError:
            raise
        except Exception as error:
            raise DependencyError(
                _("The Python packages that SOFA needs could not be installed: {error}").format(error=error)
            ) from error


def _installPackages(requirements: list[str], constraints: Path) -> None:
    try:
        import slicer.packaging
    except ImportError:
        _installPackagesBefore512(requirements, constraints)
        return
    slicer.packaging.pip_ensure(requirements, constraints=constraints, requester="SOFASegment")


def _installPackagesBefore512(requirements: list[str], constraints: Path) -> None:
    """Do what `slicer.packaging.pip_ensure` does; Slicer 5.10 does not have it."""
    from packaging.requirements import Requirement

    missing = []
    for text in requirements:
        requirement = Requirement(text)
        applies = requirement.marker is None or requirement.marker.evaluate()
        fits = isInstalled(requirement.name) and requirement.specifier.contains(
            importlib.metadata.version(requirement.name), prereleases=True
        )
        if applies and not fits:
            missing.append(text)
    if not missing or slicer.app.testingEnabled():
        return
    question = _("SOFA needs these Python packages: {names}. Install them now?").format(names=", ".join(missing))
    if not slicer.util.confirmOkCancelDisplay(question):
        raise DependencyError(
            _("SOFA cannot segment without these Python packages: {names}.").format(names=", ".join(missing))
        )
    slicer.util.pip_install(["-c", str(constraints), *missing])


def _installTorch() -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise DependencyError(
            _("SOFA needs the PyTorch extension: install it in the Extensions Manager and restart Slicer.")
        ) from error
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
        raise DependencyError(_("SOFA cannot segment on this computer without PyTorch; press Segment to install it."))


def isInstalled(name: str) -> bool:
    """Whether a Python package is installed; looks without importing it."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
