"""`python -m sofa_service`: an engine configured by the environment, as the launcher starts it."""

from __future__ import annotations

import logging
import os
import sys

from sofa_engine.errors import SofaError
from sofa_service.config import CONFIG_VARIABLE, ServeConfig
from sofa_service.server import serve


def main() -> int:
    """Serve; a failure is one sentence on stderr, where the launcher finds it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Taken out, so that no child of the engine inherits the token.
    config = ServeConfig.model_validate_json(os.environ.pop(CONFIG_VARIABLE, "{}"))
    try:
        serve(config)
    except SofaError as error:
        print(f"SOFA: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
