"""Whether another way to run the encoder on a CPU would pay: PyTorch's compiler, ONNX Runtime, OpenVINO.

    pip install openvino onnxruntime onnx onnxscript
    python Testing/bench/bench_backends.py [--repeats 5]

Each arrangement's encoder (random weights, prepared as the engine does) takes the same images on one thread; printed is
the processor time of the fastest repeat against eager PyTorch's in the same run, and the largest difference of the
features over their largest value. What is not installed is left out.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "SOFASegment")]

from sofa_engine.model.config import compact, litemedsam  # noqa: E402
from sofa_engine.model.network import SofaModel  # noqa: E402
from sofa_engine.runtime import tune_allocator  # noqa: E402
from sofa_engine.torch_predictor import prepare_for_inference  # noqa: E402

#: Images of one slice, and its padded rows and columns: a BraTS brain.
_SEQUENCES, _SIZE = 4, (192, 160)
Answer = Callable[[], Any]


class _Encoder(torch.nn.Module):
    """The encoder of one slice with all four sequences."""

    def __init__(self, model: SofaModel) -> None:
        super().__init__()
        self.encoder = model.image_encoder
        self.register_buffer("sequences", torch.arange(_SEQUENCES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images, self.sequences)[0]


def openvino(encoder: _Encoder, images: torch.Tensor) -> Iterator[tuple[str, Answer]]:
    """Yield OpenVINO in both precisions."""
    import openvino as ov

    converted, core = ov.convert_model(encoder, example_input=images), ov.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1})
    for precision in ("f32", "bf16"):
        compiled = core.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        yield f"OpenVINO {precision}", lambda compiled=compiled: torch.from_numpy(compiled(images.numpy())[0])


def onnx_runtime(encoder: _Encoder, images: torch.Tensor) -> Iterator[tuple[str, Answer]]:
    """Yield ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "encoder.onnx")
        torch.onnx.export(encoder, (images,), path, dynamo=False, opset_version=17)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    yield "ONNX Runtime", lambda: torch.from_numpy(session.run(None, {given: images.numpy()})[0])


def compiler(encoder: _Encoder, images: torch.Tensor) -> Iterator[tuple[str, Answer]]:
    """Yield PyTorch's own compiler, which needs a C++ compiler on the machine."""
    compiled, images = torch.compile(encoder), images.to(memory_format=torch.channels_last)
    yield "torch.compile", lambda: compiled(images)


def seconds(answer: Answer, repeats: int) -> float:
    """Return the least processor time of one answer; the first one warms up."""
    answer()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        answer()
        times.append(time.process_time() - start)
    return min(times)


def main(repeats: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Print a line for every arrangement and way."""
    torch.set_num_threads(1)
    tune_allocator()
    for config in (litemedsam(), compact()):
        torch.manual_seed(0)
        encoder = _Encoder(prepare_for_inference(SofaModel(config))).eval()
        images = torch.rand(_SEQUENCES, 3, *_SIZE)
        laid_out = images.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = encoder(laid_out)
            eager = seconds(partial(encoder, laid_out), repeats)
        print(f"{config.arrangement:11} eager PyTorch  {eager * 1e3:7.1f} ms")
        for way in (openvino, onnx_runtime, compiler):
            try:
                with torch.inference_mode():
                    for name, answer in way(encoder, images):
                        taken = seconds(answer, repeats)
                        apart = float((answer() - expected).abs().max() / expected.abs().max())
                        print(f"{'':11} {name:13} {taken * 1e3:8.1f} ms  x{eager / taken:.2f}  differs by {apart:.1e}")
            except Exception as error:
                print(f"{'':11} {way.__name__}: left out, {type(error).__name__}: {str(error)[:100]}")


if __name__ == "__main__":
    typer.run(main)
