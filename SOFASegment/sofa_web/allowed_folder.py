"""The part of the server's disk that visitors may see: one folder, and nothing that leads out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sofa_engine.discovery import UnmatchedError, discover, volumes_in
from sofa_engine.errors import InputError, SofaError
from sofa_engine.reading import is_volume_file
from sofa_web.detached import check_data_files

#: A page cannot show more, and a listing of a whole archive would keep everybody waiting.
_MOST_ENTRIES = 2000


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        path: relative to the allowed folder, with "/" between names; empty for the folder itself.
        folders: names of the folders in it.
        volumes: how many volume files lie in it.
    """

    path: str
    folders: tuple[str, ...]
    volumes: int


class AllowedFolder:
    """Answers questions about one folder; paths are relative to it, and links are followed before they are judged."""

    def __init__(self, root: Path) -> None:
        """Allow `root` and what is below it."""
        self._root = Path(root).resolve()

    def resolve(self, path: str) -> Path:
        """Return the folder that a relative path means.

        Raises:
            InputError: it lies outside, or is not a folder. The two are not told apart, so that nobody learns what
                lies outside.
        """
        try:
            found = (self._root / path).resolve()
        except (OSError, ValueError, RuntimeError):
            found = self._root / "\0"
        if "\0" in path or not found.is_relative_to(self._root) or not found.is_dir():
            raise InputError(f"“{path}” is not a folder that this server offers; choose one from the list.")
        return found

    def listing(self, path: str) -> Listing:
        """Return what a folder holds, hidden entries and links that lead outside left out.

        Raises:
            InputError: the folder lies outside or does not exist.
        """
        folder = self.resolve(path)
        try:
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name.lower())[:_MOST_ENTRIES]
        except OSError as error:
            raise InputError(f"“{path}” cannot be read; ask whoever runs this server.") from error
        seen = [entry for entry in entries if not entry.name.startswith(".") and self._inside(entry)]
        folders = tuple(entry.name for entry in seen if entry.is_dir())
        volumes = sum(entry.is_file() and is_volume_file(entry) for entry in seen)
        relative = folder.relative_to(self._root).as_posix()
        return Listing("" if relative == "." else relative, folders, volumes)

    def case_folder(self, path: str) -> Path:
        """Return a folder whose sequences all lie inside.

        Raises:
            InputError: the folder lies outside, holds no case, or a volume in it is a link that leads outside.
        """
        folder = self.resolve(path)
        try:
            sources = tuple(discover(folder).sources.values())
        except UnmatchedError:
            sources = volumes_in(folder)  # the visitor will be asked which is which
        except SofaError as error:
            raise self.shown(error) from error
        for source in sources:
            for file in [source] if isinstance(source, Path) else source.files:
                if not self._inside(file):
                    raise InputError(
                        f"{Path(file).name} leads outside of what this server offers; choose another case."
                    )
                check_data_files(Path(file), self._root)
        return folder

    def shown(self, error: SofaError) -> InputError:
        """Return an error that names folders below the allowed one, as a visitor knows them and not as the operator."""
        return InputError(str(error).replace(str(self._root), self._root.name))

    def _inside(self, path: Path) -> bool:
        try:
            return Path(path).resolve().is_relative_to(self._root)
        except (OSError, RuntimeError):
            return False
