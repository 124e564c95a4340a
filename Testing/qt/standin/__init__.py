"""A stand-in for the Python that runs inside Slicer: `qt` and `ctk` as PythonQt offers them, on PySide6.

`pythonqt` wraps PySide6 objects so that they answer as PythonQt does, `facts` says which names exist, `native` holds
Qt implementations of the Slicer and CTK widgets that the modules use, and `slicer_app` puts all of it together with
slicer-core's real MRML.
"""
