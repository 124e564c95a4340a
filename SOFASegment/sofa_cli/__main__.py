"""`python -m sofa_cli` is `sofa`."""

from sofa_cli.main import run

if __name__ == "__main__":
    run()
