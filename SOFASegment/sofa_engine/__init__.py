"""What SOFA computes: four MRI volumes in, a brain-tumour segmentation out.

Importing this package is cheap: nothing here imports torch until a model is built, so that the MRML layer and the
client of the engine process can use the data types (`sofa_engine.types`, `sofa_engine.geometry`) inside Slicer.
"""

__version__ = "0.1.0"
