"""Whoever loads the official LiteMedSAM weights gets the official answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference_weights import DATA, official_state_dict

from sofa_engine.model.checkpoint import load_checkpoint
from sofa_engine.model.decoder import dense_positions, embed_boxes
from sofa_engine.model.network import SofaModel


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(DATA / "litemedsam_reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SofaModel:
    """Loaded the way a user loads the published file: `lite_medsam.pth`, a bare state_dict."""
    path = tmp_path_factory.mktemp("weights") / "lite_medsam.pth"
    torch.save(official_state_dict(), path)
    return load_checkpoint(path)[0]


@pytest.fixture(scope="module")
def embedding(model: SofaModel) -> torch.Tensor:
    image = torch.from_numpy(np.random.RandomState(0).rand(1, 3, 256, 256).astype(np.float32))
    with torch.inference_mode():
        return model.image_encoder(image)[0]


def assert_close(ours: torch.Tensor, reference: np.ndarray) -> None:
    error = np.abs(ours.numpy() - reference).max() / np.abs(reference).max()
    assert error < 1e-4, f"relative error {error:.2e}"


def test_the_encoder_gives_the_official_embedding(embedding: torch.Tensor, reference: dict[str, np.ndarray]) -> None:
    assert embedding.shape == (1, 256, 64, 64)
    assert_close(embedding[:, ::8, ::4, ::4], reference["embedding"])
    assert float(embedding.norm()) == pytest.approx(float(reference["embedding_norm"]), rel=1e-4)


def test_positions_of_the_full_grid_are_the_official_ones(model: SofaModel, reference: dict[str, np.ndarray]) -> None:
    positions = dense_positions(model.prompt_encoder, (64, 64), 4)
    assert_close(positions[:, ::16, ::8, ::8], reference["dense_pe"])
    torch.testing.assert_close(positions, model.prompt_encoder.get_dense_pe(), rtol=1e-5, atol=1e-6)


def test_a_box_is_embedded_as_the_official_prompt_encoder_does(
    model: SofaModel, reference: dict[str, np.ndarray]
) -> None:
    with torch.inference_mode():
        assert_close(embed_boxes(model.prompt_encoder, torch.tensor([[60.0, 70, 180, 200]])), reference["sparse"])


def test_the_decoder_gives_the_official_mask_and_quality(
    model: SofaModel, embedding: torch.Tensor, reference: dict[str, np.ndarray]
) -> None:
    with torch.inference_mode():
        sparse = embed_boxes(model.prompt_encoder, torch.tensor([[60.0, 70, 180, 200]]))
        dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        positions = dense_positions(model.prompt_encoder, (64, 64), 4)
        logits, quality = model.mask_decoder.decode(embedding, positions, sparse, dense)
    assert_close(logits[:, None, ::4, ::4], reference["low_res_logits"])
    assert float(logits.norm()) == pytest.approx(float(reference["low_res_norm"]), rel=1e-4)
    assert_close(quality[:, None], reference["iou"])


def test_a_batch_of_images_with_a_box_each_answers_as_one_by_one(model: SofaModel, embedding: torch.Tensor) -> None:
    boxes = torch.tensor([[60.0, 70, 180, 200], [10, 20, 90, 80]])
    images = torch.cat([embedding, embedding.flip(-1)])
    positions = dense_positions(model.prompt_encoder, (64, 64), 4)
    dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    with torch.inference_mode():
        sparse = embed_boxes(model.prompt_encoder, boxes)
        together = model.mask_decoder.decode(images, positions, sparse, dense)
        for i in range(2):
            alone = model.mask_decoder.decode(images[i : i + 1], positions, sparse[i : i + 1], dense)
            torch.testing.assert_close(together[0][i], alone[0][0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(together[1][i], alone[1][0], rtol=1e-4, atol=1e-4)
