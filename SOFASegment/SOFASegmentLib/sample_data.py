"""A real glioma for the tutorial, registered with Slicer's Sample Data module."""

from __future__ import annotations

from typing import Any

#: BraTS-GLI-00001-000 (BraTS 2023), as the MONAIAuto3DSeg extension publishes it, with the checksums that it publishes.
_CASE = "BraTS-GLI-00001-000"
_ADDRESS = "https://github.com/lassoan/SlicerMONAIAuto3DSeg/releases/download/TestingData"
_SHA256 = {
    "t1n": "e860924b936e301ddeba20409fbb59dde322475cb49328f1b46a9235c792e73e",
    "t1c": "4399faadcc45c8a4541313cdf88aced7d835ed59ac3078d950e0eac293d603f5",
    "t2w": "4cd389cc57d12134a30a898c66532228126b9a7d0600ee578e82a32144528b51",
    "t2f": "82aed8546af5e6d8d94fd91c56227abdcf6120130390d1556c4342a208980604",
}


def registerSampleData(sampleDataLogic: Any, thumbnail: str | None = None) -> None:
    """Offer the case in Slicer's Sample Data module; nothing is downloaded before the user asks for it.

    Args:
        sampleDataLogic: the class `SampleData.SampleDataLogic`.
        thumbnail: picture file, about 260 × 280 pixels.
    """
    names = [f"{_CASE}-{ending}" for ending in _SHA256]
    # Titles of categories came with Slicer 5.12.
    if hasattr(sampleDataLogic, "registerCustomSampleDataCategory"):
        sampleDataLogic.registerCustomSampleDataCategory("SOFA", title="SOFA")
    sampleDataLogic.registerCustomSampleDataSource(
        category="SOFA",
        sampleName="SOFABrainTumor",
        uris=[f"{_ADDRESS}/{name}.nii.gz" for name in names],
        fileNames=[f"{name}.nii.gz" for name in names],
        nodeNames=names,
        thumbnailFileName=thumbnail,
        checksums=[f"SHA256:{digest}" for digest in _SHA256.values()],
    )
