"""Checkpoints on this machine: the ones that ship with SOFA, downloaded ones, and the manifest that knows them.

Looked for, in this order: `Resources/Weights` of the repository checkout; `Weights` or `Resources/Weights` beside the
installed packages (so a Slicer extension finds what it installs next to its modules); `share/sofa/Weights` of the
Python environment; and the user's cache. The first manifest on the way is the one that counts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sofa_engine.errors import WeightsError
from sofa_engine.progress import CancelToken, Progress, ProgressCallback

_PARTIAL, _RANGE_BEYOND_END = 206, 416
_MEGABYTE = 1e6


class ManifestEntry(BaseModel):
    """One checkpoint that SOFA knows by name.

    Attributes:
        name: what it is called on the command line.
        file: its file name.
        sha256: hash of the file, in hexadecimal.
        size: bytes.
        arrangement: name of its encoder's arrangement.
        note: what it was trained on and what it is good for, for people.
        url: where it can be downloaded; None if it ships with SOFA or must be brought by the user.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(gt=0)
    arrangement: str
    note: str = ""
    url: str | None = None


class Manifest(BaseModel):
    """All checkpoints that SOFA knows, and which of them is used where none is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str | None = None
    checkpoints: tuple[ManifestEntry, ...] = ()


@dataclass(frozen=True)
class Known:
    """A checkpoint of the manifest and where its file lies; None where it has to be fetched first."""

    entry: ManifestEntry
    path: Path | None


class WeightsStore:
    """Finds, downloads, verifies and removes checkpoints."""

    def __init__(self, shipped: tuple[Path, ...] | None = None, cache: Path | None = None) -> None:
        """Look in `shipped` folders and in `cache`; in the documented places where None."""
        self._shipped = shipped_folders() if shipped is None else shipped
        self.cache = platformdirs.user_cache_path("sofa") / "weights" if cache is None else cache

    def manifest(self) -> Manifest:
        """Read the manifest; an empty one where none is installed.

        Raises:
            WeightsError: the manifest is damaged.
        """
        for folder in self._shipped:
            path = folder / "manifest.json"
            if path.is_file():
                try:
                    return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
                except (OSError, ValueError, ValidationError) as error:
                    raise WeightsError(f"{path} is not a manifest of checkpoints; install SOFA again.") from error
        return Manifest()

    def list(self) -> tuple[Known, ...]:
        """Return every checkpoint of the manifest."""
        return tuple(Known(entry, self._find(entry)) for entry in self.manifest().checkpoints)

    def entry(self, name: str) -> ManifestEntry:
        """Return what the manifest says about a name.

        Raises:
            WeightsError: it does not know the name.
        """
        entries = self.manifest().checkpoints
        for entry in entries:
            if entry.name == name:
                return entry
        known = f"known are {', '.join(e.name for e in entries)}" if entries else "the manifest lists none"
        raise WeightsError(f"There is no checkpoint called '{name}' ({known}); give a name or a file that exists.")

    def resolve(self, weights: str | Path | None = None) -> Path:
        """Return the file for a path, a name of the manifest, or None for the default.

        Raises:
            WeightsError: the file is not there, or the checkpoint has to be fetched first.
        """
        if weights is not None and Path(weights).is_file():
            return Path(weights)
        if weights is not None and (Path(weights).suffix or len(Path(weights).parts) > 1):
            raise WeightsError(f"There is no checkpoint file {weights}; check the path.")
        name = self.manifest().default if weights is None else str(weights)
        if name is None:
            raise WeightsError("No checkpoint is installed with SOFA; give one of your own with --weights FILE.")
        entry = self.entry(name)
        path = self._find(entry)
        if path is None:
            how = f"sofa weights get {name}" if entry.url else f"sofa weights add FILE with {entry.file}"
            raise WeightsError(f"The checkpoint '{name}' is not on this machine yet; run: {how}.")
        return path

    def _find(self, entry: ManifestEntry) -> Path | None:
        """Return the entry's file if it is there in full; its hash is checked when it is loaded or verified."""
        for folder in (*self._shipped, self.cache):
            path = folder / entry.file
            # A Git LFS pointer or a file of an older version has another size.
            if path.is_file() and path.stat().st_size == entry.size:
                return path
        return None

    def verify(self, name: str) -> Path:
        """Compare an installed checkpoint with its hash and return its file.

        Raises:
            WeightsError: it is not installed, or it is not what it should be.
        """
        entry, path = self.entry(name), self.resolve(name)
        if sha256_of(path) != entry.sha256:
            raise WeightsError(f"{path} is damaged (its SHA-256 differs); remove it and get it again.")
        return path

    def add(self, file: Path) -> Path:
        """Take over a checkpoint that was carried here by hand, for machines without a network.

        Raises:
            WeightsError: the file is none of the manifest's checkpoints, or cannot be copied.
        """
        if not file.is_file():
            raise WeightsError(f"There is no file {file}; check the path.")
        found = sha256_of(file)
        for entry in self.manifest().checkpoints:
            if entry.sha256 == found:
                with self._writing() as folder:
                    part = folder / f"{entry.file}.{entry.sha256[:12]}.part"
                    shutil.copyfile(file, part)
                    return part.replace(folder / entry.file)
        raise WeightsError(f"{file} is none of the checkpoints that SOFA knows; use it as it is with --weights {file}.")

    def remove(self, name: str) -> bool:
        """Delete a downloaded checkpoint and what is left of its download; shipped files stay.

        Returns:
            Whether there was anything to delete.

        Raises:
            WeightsError: the manifest does not know the name, or the file cannot be deleted.
        """
        entry = self.entry(name)
        files = [self.cache / entry.file, self._part(entry)]
        present = [path for path in files if path.is_file()]
        with self._writing():
            for path in present:
                path.unlink()
        return bool(present)

    def get(
        self,
        name: str,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Path:
        """Return a checkpoint's file, downloading it where it is not here yet.

        A download that broke off is continued; nothing takes its final name before its hash is right.

        Raises:
            WeightsError: there is no address, the download broke off, or what came is not the checkpoint.
            CancelledError: the token was cancelled; what came so far is kept for the next time.
        """
        entry = self.entry(name)
        path = self._find(entry)
        if path is not None:
            return path
        if entry.url is None:
            raise WeightsError(f"'{name}' cannot be downloaded; bring {entry.file} and run: sofa weights add FILE.")
        address = urlsplit(entry.url)
        if address.scheme != "https" and address.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise WeightsError(f"The address of '{name}' is not https; it is not downloaded.")
        with self._writing() as folder:
            part = self._part(entry)
            try:
                _download(entry, part, progress, cancel)
            except httpx.HTTPError as error:
                done = part.stat().st_size / _MEGABYTE if part.is_file() else 0
                raise WeightsError(
                    f"The download of '{name}' broke off after {done:.1f} of {entry.size / _MEGABYTE:.1f} MB "
                    f"({error}); run it again to continue."
                ) from error
            if sha256_of(part) != entry.sha256:
                part.unlink()
                raise WeightsError(f"What came from {entry.url} is not '{name}' (its SHA-256 differs); it was deleted.")
            return part.replace(folder / entry.file)

    def _part(self, entry: ManifestEntry) -> Path:
        # The hash in the name keeps a part of another version from being continued.
        return self.cache / f"{entry.file}.{entry.sha256[:12]}.part"

    @contextmanager
    def _writing(self) -> Iterator[Path]:
        """Give the cache folder, and say in one sentence why it cannot be written."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            yield self.cache
        except OSError as error:
            raise WeightsError(f"{self.cache} cannot be written: {error.strerror or error}.") from error


def _download(entry: ManifestEntry, part: Path, progress: ProgressCallback | None, cancel: CancelToken | None) -> None:
    """Fetch the rest of a file into `part`; starts over where the server cannot continue."""
    done = part.stat().st_size if part.is_file() else 0
    if done >= entry.size:
        return
    headers = {"Range": f"bytes={done}-", "Accept-Encoding": "identity"} if done else {"Accept-Encoding": "identity"}
    with httpx.stream("GET", str(entry.url), headers=headers, follow_redirects=True, timeout=30) as response:
        if response.status_code == _RANGE_BEYOND_END:
            part.unlink()
        response.raise_for_status()
        continues = response.status_code == _PARTIAL and response.headers.get("Content-Range", "").startswith(
            f"bytes {done}-"
        )
        done = done if continues else 0
        with part.open("ab" if continues else "wb") as stream:
            for chunk in response.iter_raw():  # as it comes, so that what broke off is kept to the last byte
                if cancel is not None:
                    cancel.check()
                stream.write(chunk)
                done += len(chunk)
                if done > entry.size:
                    break  # not what the manifest describes; the hash will say so
                if progress is not None:
                    progress(Progress(f"Downloading {entry.name}", done / entry.size))
    if done < entry.size:
        raise httpx.ReadError("the server sent less than it should")


def shipped_folders() -> tuple[Path, ...]:
    """Return the folders in which a checkpoint may have been installed with SOFA, in the order of the search."""
    packages = Path(__file__).resolve().parents[1]
    return (
        packages.parent / "Resources" / "Weights",
        packages / "Weights",
        packages / "Resources" / "Weights",
        Path(sys.prefix) / "share" / "sofa" / "Weights",
    )


def default_checkpoint() -> Path:
    """Return the checkpoint that is used where none is named.

    Raises:
        WeightsError: none is installed.
    """
    return WeightsStore().resolve()


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
