"""Fine-tuning on local cases: preparing, training, evaluating, and the paper's experiments.

Stands on `sofa_engine` alone. Importing this package is cheap; torch is imported by the modules that compute with it.
"""
