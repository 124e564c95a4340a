"""Import timm and segment-anything where torchvision's binary does not fit torch.

Both import torchvision at file scope, only for transforms and box utilities that SOFA never calls. PyPI's Linux wheels
of torchvision are linked against CUDA; beside a CPU-only torch their custom operators are never registered and the
import ends in "operator torchvision::nms does not exist". Declaring the two operators first lets the import pass;
calling them would still fail, and nothing here does.
"""

from __future__ import annotations

import importlib

import torch

# The library object must outlive this module: the operators vanish with it.
_declared: list[torch.library.Library] = []


def prepare_torchvision() -> None:
    """Make `import torchvision` succeed; do nothing where it already does.

    Raises:
        RuntimeError, ImportError: torchvision is absent or broken in another way.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if torch.version.cuda is not None or "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")
