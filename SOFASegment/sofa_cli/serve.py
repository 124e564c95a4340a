"""`sofa serve`: the engine for this computer's faces or, with TLS, for a clinic."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sofa_service.protocol import Status

app = typer.Typer(help="Run the engine for other programs and computers.")
_TOKEN_VARIABLE = "SOFA_TOKEN"


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; anything but loopback needs TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.", min=0, max=65535)] = 8484,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    weights: Annotated[str | None, typer.Option(help="Checkpoint: a file, or a name of `sofa weights list`.")] = None,
    workers: Annotated[int, typer.Option(help="Engine processes, one per GPU.", min=1, max=64)] = 1,
    memory: Annotated[float | None, typer.Option(help="GB for open cases; default: half of the machine's.")] = None,
    features: Annotated[
        float | None,
        typer.Option(help="GB for one case's features; the rest goes to a file. Default: by the device's memory."),
    ] = None,
    idle: Annotated[float, typer.Option(help="Minutes after which an unused case is closed; 0: never.", min=0)] = 120,
    certfile: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).")] = None,
    keyfile: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[bool, typer.Option("--behind-proxy", help="A proxy in front does TLS.")] = False,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the token; else {_TOKEN_VARIABLE}, else a new one is printed.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show running engines of this computer and stop.")] = False,
    url: Annotated[str | None, typer.Option(help="With --status: the address of another computer's engine.")] = None,
) -> None:
    """Serve segmentation to 3D Slicer, browsers and scripts.

    Faces on this computer start their own engine; this is for a GPU machine that others use:
    sofa serve --host 0.0.0.0 --certfile cert.pem --keyfile key.pem
    """
    token = _token(token_file)
    if status:
        _show([(url, token or "")] if url else _running())
        return
    from sofa_engine.errors import InputError
    from sofa_engine.weights import WeightsStore
    from sofa_service.config import ServeConfig

    try:
        config = ServeConfig(
            host=host,
            port=port,
            device=device,
            weights=WeightsStore().resolve(weights) if weights is not None else None,
            workers=workers,
            budget_mb=None if memory is None else max(1, int(memory * 1000)),
            feature_mb=None if features is None else max(0, int(features * 1000)),
            idle_minutes=idle,
            certfile=certfile,
            keyfile=keyfile,
            behind_proxy=behind_proxy,
            ready_file=_folder() / f"engine-{os.getpid()}.json",
            **({"token": token} if token else {}),
        )
    except ValueError as exc:
        raise InputError("The token is too short; use at least 16 characters.") from exc
    _serve(config, show_token=token is None)


def _serve(config: object, *, show_token: bool) -> None:
    from sofa_service.config import ServeConfig
    from sofa_service.server import serve as run

    assert isinstance(config, ServeConfig)

    def listening(address: str) -> None:
        typer.echo(f"SOFA engine at {address} (Ctrl-C stops it)")
        if show_token:
            typer.echo(f"Token: {config.token}")

    run(config, listening)


def _token(token_file: Path | None) -> str | None:
    from sofa_engine.errors import InputError

    if token_file is None:
        return os.environ.get(_TOKEN_VARIABLE) or None
    try:
        return token_file.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise InputError(f"The token file {token_file} cannot be read: {exc.strerror}.") from exc


def _folder() -> Path:
    import platformdirs

    return platformdirs.user_state_path("sofa", ensure_exists=True)


def _running() -> list[tuple[str, str]]:
    """Return address and token of every engine that this user serves; files of dead ones are removed."""
    import psutil

    engines = []
    for path in sorted(_folder().glob("engine-*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if psutil.pid_exists(facts["pid"]):
            engines.append((facts["url"], facts["token"]))
        else:
            path.unlink(missing_ok=True)
    return engines


def _show(engines: list[tuple[str, str]]) -> None:
    from sofa_engine.errors import SofaError
    from sofa_service.client import EngineClient

    if not engines:
        typer.echo("No engine of yours is being served on this computer.")
    for address, token in engines:
        try:
            with EngineClient(address, token) as client:
                _print(address, client.status())
        except SofaError as error:
            typer.echo(f"{address}: {error}")


def _print(address: str, status: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{address}  SOFA {status.version}, device {status.device}, up {status.uptime_s / 60:.0f} min",
        caption=f"cases {status.memory_mb} of {status.budget_mb} MiB, process {status.process_mb} MiB, "
        f"{status.queued} requests at work",
    )
    for column in ("session", "state", "MiB", "idle s", "requests"):
        table.add_column(column)
    for session in status.sessions:
        table.add_row(
            f"{session.id_prefix}...",
            session.state,
            str(session.megabytes),
            f"{session.idle_s:.0f}",
            str(session.jobs),
        )
    Console().print(table)
