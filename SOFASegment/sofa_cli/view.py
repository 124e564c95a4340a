"""`sofa view`: the browser face."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Segment in a web browser.")


@app.command()
def view(
    case: Annotated[Path | None, typer.Argument(help="Folder with one patient's T1, T1c, T2 and FLAIR.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of cases that visitors may open.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; anything but loopback needs TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.", min=0, max=65535)] = 8080,
    prefix: Annotated[str, typer.Option(help="Path that a proxy in front passes on, such as /sofa.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    weights: Annotated[str | None, typer.Option(help="Checkpoint: a file, or a name of `sofa weights list`.")] = None,
    engine: Annotated[str | None, typer.Option(help="Address of an engine that `sofa serve` runs.")] = None,
    engine_token: Annotated[str, typer.Option(envvar="SOFA_TOKEN", help="Its token.")] = "",
    idle: Annotated[float, typer.Option(help="Minutes after which an unused session ends; 0: never.", min=0)] = 60,
    away: Annotated[
        float, typer.Option(help="Minutes after which a closed page's session gives way to a new visitor.", min=0)
    ] = 5,
    visitors: Annotated[int, typer.Option(help="Sessions that may be open at once.", min=1)] = 8,
    certfile: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).")] = None,
    keyfile: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[bool, typer.Option("--behind-proxy", help="A proxy in front does TLS.")] = False,
    public_url: Annotated[str, typer.Option(help="Address by which browsers reach it, such as the proxy's.")] = "",
    browser: Annotated[bool, typer.Option(help="Open a browser on this computer.")] = True,
) -> None:
    """Open the interactive segmentation in a web browser, on this computer or from a server.

    sofa view CASE_DIR
    sofa view --folder /data/cases --host 0.0.0.0 --certfile cert.pem --keyfile key.pem --no-browser
    """
    from sofa_engine.weights import WeightsStore
    from sofa_service.config import is_loopback
    from sofa_web.config import ViewConfig
    from sofa_web.server import serve

    config = ViewConfig(
        host=host,
        port=port,
        prefix=prefix,
        case=case.resolve() if case is not None else None,
        folder=folder.resolve() if folder is not None else None,
        device=device,
        weights=WeightsStore().resolve(weights) if weights is not None else None,
        engine_url=engine,
        engine_token=engine_token,
        idle_minutes=idle,
        away_minutes=away,
        max_visitors=visitors,
        certfile=certfile,
        keyfile=keyfile,
        behind_proxy=behind_proxy,
        public_url=public_url,
    )

    def listening(address: str) -> None:
        typer.echo(f"SOFA is at {address} (Ctrl-C stops it)")
        if browser and is_loopback(host):
            webbrowser.open(address)

    serve(config, listening)
